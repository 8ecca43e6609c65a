"""Sampling, joining and probing in one line, with the field named last or not at all."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.client.field.opening import open_field
from unigeo.schemas.errors import ProbeError

if TYPE_CHECKING:
    from unigeo.client.probing.probe import Probe


def sample(points: Any, url: Any = None, **options: Any) -> Any:
    """Read the vectors at points; `url` as in `open_field`, options as in `Field.sample`."""
    return open_field(url).sample(points, **options)


def join(table: Any, url: Any = None, **options: Any) -> Any:
    """Join a table to a field; `url` as in `open_field`, options as in `Field.join`."""
    return open_field(url).join(table, **options)


def probe(table: Any, targets: Any, url: Any = None, **options: Any) -> "Probe":
    """Probe a field with a table; `url` as in `open_field`, options as in `Field.probe`.

    Raises:
        ProbeError: if the field is named before the targets, as earlier versions had it.
    """
    if _is_address(targets, table):
        named = "targets" if url is None else repr(url)
        raise ProbeError(
            f"the field comes last: write client.probe(table, {named}, {str(targets)!r})"
        )
    return open_field(url).probe(table, targets, **options)


def _is_address(targets: Any, table: Any) -> bool:
    """Return whether what stands in the place of the targets is the address of a field."""
    if isinstance(targets, os.PathLike) or type(targets).__module__.startswith("zarr."):
        return True
    if not isinstance(targets, str) or targets in getattr(table, "columns", ()):
        return False
    return "://" in targets or targets.endswith(".zarr") or (Path(targets) / "zarr.json").is_file()
