"""Input files in the provenance of observations: those that changed, and what is left without them.

A provenance is JSON in which an input file is an object with the keys `file`, `bytes` and a hash.
"""

import json
from collections.abc import Iterator
from typing import Any


def changed_files(before: Any, after: Any) -> list[str]:
    """Return the names of the input files that two provenances describe differently, sorted."""
    old, new = (dict(_files_in(provenance)) for provenance in (before, after))
    return sorted(name for name in old | new if old.get(name) != new.get(name))


def _files_in(provenance: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of every input file, and its description as text."""
    if isinstance(provenance, dict) and "file" in provenance and "bytes" in provenance:
        yield str(provenance["file"]), json.dumps(provenance, sort_keys=True)
    elif isinstance(provenance, dict | list):
        for part in provenance.values() if isinstance(provenance, dict) else provenance:
            yield from _files_in(part)


def without_files(provenance: Any, names: frozenset[str]) -> Any:
    """Return a provenance without the sizes and hashes of some input files."""
    if isinstance(provenance, list):
        return [without_files(part, names) for part in provenance]
    if not isinstance(provenance, dict):
        return provenance
    if provenance.get("file") in names and "bytes" in provenance:
        return {"file": provenance["file"]}
    return {key: without_files(value, names) for key, value in provenance.items()}
