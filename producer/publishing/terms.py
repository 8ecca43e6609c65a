"""Terms of a field: its licence, its citation and its providers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unigeo.schemas.errors import StoreError

NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms that a user chose; the others come from the previous release or the observations."""

    licence: str | None = None
    """SPDX identifier, or a sentence."""
    citation: str | None = None
    providers: tuple[str, ...] = ()
    """People or institutions that provide the field."""

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
        """Return the root's attributes with the terms in them.

        Args:
            attributes: attributes of the new root.
            before: attributes of the previous release's root, if there is one.
        """
        unigeo = dict(attributes["unigeo"])
        providers = self.providers or (() if before is None else providers_of(before))
        if providers and tuple(providers) != (NOT_STATED,):
            unigeo["providers"] = list(providers)
        return {
            **attributes,
            "unigeo": unigeo,
            "license": self.licence or _inherited("license", "licence", attributes, before),
            "citation": self.citation or _inherited("citation", "citation", attributes, before),
        }

    def check(self, attributes: Mapping[str, Any], url: str) -> None:
        """Compare the terms with those of a published field.

        Raises:
            StoreError: if one of them differs.
        """
        stated = {
            "licence": (self.licence, attributes["license"]),
            "citation": (self.citation, attributes["citation"]),
            "provider": (self.providers or None, providers_of(attributes)),
        }
        for name, (requested, published) in stated.items():
            if requested is not None and requested != published:
                raise StoreError(
                    f"{url} is published with the {name} {published!r}, not {requested!r}, and a "
                    "release never changes; add --update to make the next one"
                )


def _inherited(
    key: str, stated: str, attributes: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Any:
    """Return a term of the previous release if a user chose it, else that of the observations."""
    if before is None:
        return attributes[key]
    was_chosen = before[key] != before["unigeo"]["observations"].get(stated, NOT_STATED)
    return before[key] if was_chosen else attributes[key]


def providers_of(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the providers that a root's attributes name."""
    return tuple(attributes["unigeo"].get("providers", (NOT_STATED,)))
