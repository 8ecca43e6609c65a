"""Hashes of the sources that decide stored vectors: one code makes all vectors of a store."""

import hashlib
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unigeo.schemas.errors import StoreError

CODE = (
    "schemas",
    "producer/encoders",
    "producer/observations",
    "producer/raster",
    "producer/storage",
    "producer/training/step.py",
)
"""Sources that decide vectors; those of publication and commands do not."""
DERIVING = ("schemas", "producer/publishing", "producer/storage")
"""Sources that decide what publication derives from vectors: overviews, previews, search."""
PACKAGES = ("torch", "numpy")
SHOWN = 12
"""Number of digits of a hash in a message."""


class RoundingWarning(UserWarning):
    """Parts of one store are computed by versions or devices that may round differently."""


class OtherIdentityError(StoreError):
    """A process would write other vectors than the store holds."""


@cache
def code_sha256(parts: tuple[str, ...] = CODE) -> str:
    """Hash sources by name and content; by default those that decide vectors."""
    import unigeo.producer
    import unigeo.schemas

    roots = {
        "producer": Path(unigeo.producer.__file__).parent,
        "schemas": Path(unigeo.schemas.__file__).parent,
    }
    digest = hashlib.sha256()
    for part in parts:
        top, _, below = part.partition("/")
        path = roots[top] / below
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in (".py", ".geojson", ".json"):
                name = f"{top}/{file.relative_to(roots[top]).as_posix()}"
                digest.update(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()


@cache
def packages() -> dict[str, str]:
    """Return the versions of the packages that compute vectors."""
    return {name: version(name) for name in PACKAGES}


@cache
def code_version() -> str:
    """Return the version of the installed unigeo."""
    try:
        return version("unigeo")
    except PackageNotFoundError:
        return "not installed"


def shorten(value: str) -> str:
    """Return the first digits of a hash; a text with spaces stays as it is."""
    return value if " " in value else value[:SHOWN] or "not known"


def check_code(present: Mapping[str, Any], wanted: Mapping[str, Any], url: Any) -> None:
    """Compare the code that began a store with the code that would continue it.

    Args:
        present: the `unigeo` attribute of the store that is being built.
        wanted: the `unigeo` attribute of this run.
        url: URL of the store, for messages.

    Raises:
        OtherIdentityError: naming both versions and what to do.
    """
    if present.get("code_sha256") != wanted.get("code_sha256"):
        began, this = (
            f"unigeo {one['code_version']} with sources {shorten(one.get('code_sha256') or '')}"
            for one in (present, wanted)
        )
        raise OtherIdentityError(
            f"{url} was begun by {began}, and this is {this}: a store is never finished by other "
            "code, which may make other vectors. Go on with the unigeo that began it, or name "
            "another --out, or remove the store first."
        )
    for name, version_before in (present.get("packages") or {}).items():
        version_now = (wanted.get("packages") or {}).get(name, version_before)
        if version_now != version_before:
            warn_of_rounding(name, version_before, version_now)


def warn_of_rounding(name: str, one: str, other: str) -> None:
    """Warn that parts of a store are computed by versions or devices that round differently."""
    warnings.warn(
        f"parts of this store are computed by {name} {one} and by {name} {other}, which may round "
        "differently: a number of a vector may differ by one step from that of a store that is "
        "made by one of them alone",
        RoundingWarning,
        stacklevel=3,
    )
