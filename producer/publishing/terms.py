"""On what terms a field is given to others: its licence, how to cite it, who provides it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unigeo.schemas.errors import StoreError

NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is left open is as in the release before, or else as the observations say."""

    licence: str | None = None
    """An SPDX identifier, or a sentence."""
    citation: str | None = None
    providers: tuple[str, ...] = ()
    """People or institutions."""

    def __post_init__(self) -> None:
        for name, text in (
            ("licence", self.licence),
            ("citation", self.citation),
            *(("provider", one) for one in self.providers),
        ):
            if text is not None and not text.strip():
                raise StoreError(f"--{name} is empty; say something, or leave it out")

    def mark(
        self, attributes: dict[str, Any], before: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The root's attributes with the terms in them; `before` are the release before's."""
        own = dict(attributes["unigeo"])
        providers = self.providers or (() if before is None else providers_of(before))
        if providers and tuple(providers) != (NOT_STATED,):
            own["providers"] = list(providers)
        known = attributes if before is None else before
        return {
            **attributes,
            "unigeo": own,
            "license": self.licence or known["license"],
            "citation": self.citation or known["citation"],
        }

    def check(self, attributes: Mapping[str, Any], url: str) -> None:
        """Refuse terms that a published field contradicts.

        Raises:
            StoreError: naming what differs.
        """
        stated = {
            "licence": (self.licence, attributes["license"]),
            "citation": (self.citation, attributes["citation"]),
            "provider": (self.providers or None, providers_of(attributes)),
        }
        for name, (asked, there) in stated.items():
            if asked is not None and asked != there:
                raise StoreError(
                    f"{url} is published with the {name} {there!r}, not {asked!r}, and a release "
                    "never changes; add --update to make the next one"
                )


def providers_of(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Who provides a field, by its root's attributes."""
    return tuple(attributes["unigeo"].get("providers", (NOT_STATED,)))
