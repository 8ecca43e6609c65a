"""The parts of a provenance: what decides the observations, and what is only told of them."""

from typing import Any

TOLD = frozenset({"licence", "citation", "credit", "note", "provider", "acquired"})
"""Keys whose texts are told to readers and change no observation."""
CONTENTS = "contents_sha256"
"""Key of the digests of what a set of observations holds, by modality."""


def without_told(provenance: Any) -> Any:
    """Return a provenance without the texts that are only told."""
    if isinstance(provenance, dict):
        return {
            key: without_told(part)
            for key, part in provenance.items()
            if not (key in TOLD and isinstance(part, str))
        }
    if isinstance(provenance, list):
        return [without_told(part) for part in provenance]
    return provenance


def deciding(provenance: Any) -> Any:
    """Return the part of a provenance on which observations depend.

    A set with digests of its contents depends on nothing else: its settings, counts and hashes
    also change with what is told.
    """
    if isinstance(provenance, dict) and isinstance(provenance.get(CONTENTS), dict):
        return {key: provenance.get(key) for key in ("name", "split", CONTENTS)}
    return without_told(provenance)
