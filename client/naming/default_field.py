"""The field that is read where none is named, which is said once."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from unigeo.client.naming.known_fields import address_of
from unigeo.schemas.errors import DefaultFieldWarning, StoreError
from unigeo.schemas.io.installed_fields import DEFAULT

VARIABLE = "UNIGEO_FIELD"
"""Environment variable with the name or the address of the field that is read by default."""
_CLIENT = (str(Path(__file__).parents[1]),)
"""Folder of the client, so that the warning points to the line that called it."""
_said: set[str] = set()
"""The sentences that this process has issued."""


@dataclass(frozen=True)
class DefaultField:
    """The field that is read where none is named."""

    named: str
    """Its name or its address."""
    from_environment: bool

    def address(self) -> str:
        """Return the address of the field.

        Raises:
            StoreError: if it has a name that no field has.
        """
        try:
            return address_of(self.named)
        except StoreError as error:
            if not self.from_environment:
                raise
            raise StoreError(f"{VARIABLE} is {self.named!r}, and {error}") from error

    def sentence(self, region: str, resolution_m: float) -> str:
        """Say which field is read and how coarse it is."""
        reason = f", as {VARIABLE} says" if self.from_environment else ""
        return (
            f"no field is named: reading {self.named}{reason}, {region} in cells of "
            f"{resolution_m / 1000:g} km"
        )


def default_field() -> DefaultField:
    """Return the field that `UNIGEO_FIELD` names, else `conus-1`."""
    named = os.environ.get(VARIABLE, "").strip()
    return DefaultField(named or DEFAULT, bool(named))


def say_once(sentence: str) -> None:
    """Warn that a field is read which nobody named, once in a process."""
    if sentence in _said:
        return
    _said.add(sentence)
    warnings.warn(sentence, DefaultFieldWarning, skip_file_prefixes=_CLIENT, stacklevel=2)
