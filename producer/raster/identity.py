"""What decides the vectors of a store, as one process can tell it; all that fill a store agree.

The model, the observations and the code are compared by hash: a path may mean another folder on
another machine, and a checkout may have been edited. Versions of torch and numpy round products
differently and change nothing else, so they are compared and told, and not refused.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import innermost
from unigeo.producer.raster.shard_work import Land
from unigeo.schemas.errors import StoreError

if TYPE_CHECKING:
    import torch

    from unigeo.producer.encoders.settings import ModelSettings

CODE = (
    "schemas",
    "producer/encoders",
    "producer/observations",
    "producer/raster",
    "producer/training/step.py",
    "producer/pixels.py",
)
"""Sources that vectors go through; what is published of them, and how it is asked for, is not."""
DERIVING = ("schemas", "producer/publishing", "producer/raster/shard_objects.py")
"""Sources of what publication makes of vectors: overviews and pictures."""
PACKAGES = ("torch", "numpy")
_SHOWN = 12
"""Digits of a hash in a message."""


class RoundingWarning(UserWarning):
    """Parts of one store that are computed by versions or devices that may round differently."""


class OtherIdentityError(StoreError):
    """A process that would write other vectors than the store holds."""


@cache
def code_sha256(parts: tuple[str, ...] = CODE) -> str:
    """SHA-256 of sources by name and content; of those that decide vectors by default."""
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
    """Versions of what computes vectors."""
    return {name: version(name) for name in PACKAGES}


@cache
def _code_version() -> str:
    try:
        return version("unigeo")
    except PackageNotFoundError:
        return "not installed"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What decides the vectors that a process makes; hashes are hexadecimal."""

    weights: str = ""
    """SHA-256 of the model's weights."""
    settings: str = ""
    """Digest of its settings, and of how it is used."""
    observations: str = ""
    """Digest of what is observed, and of how."""
    version: str = field(default_factory=_code_version)
    code: str = field(default_factory=code_sha256)
    packages: Mapping[str, str] = field(default_factory=packages)

    def check(self, other: "Identity", who: str) -> None:
        """Compare another process with this one.

        Args:
            other: the identity of that process.
            who: how the message names it, at the start of a sentence.

        Raises:
            OtherIdentityError: naming what differs, both values, and what to do.
        """
        faults = [
            f"{words} {_short(theirs)} there, {_short(own)} here"
            for words, own, theirs in (
                ("the model's weights are", self.weights, other.weights),
                ("the model's settings are", self.settings, other.settings),
                ("the observations are", self.observations, other.observations),
                ("the code is", self._coded(), other._coded()),
            )
            if own != theirs
        ]
        if faults:
            raise OtherIdentityError(
                f"{who} would write other vectors than this store holds: {'; '.join(faults)}. "
                f"{self._remedy(other)} Then run the same command again: what was written is kept."
            )

    def makes_the_same(self, other: "Identity") -> bool:
        """Whether another process makes the same vectors, up to how it rounds."""
        return replace(self, packages={}) == replace(other, packages={})

    def mark(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The root's attributes with the code and the packages in them."""
        own = {"code_sha256": self.code, "packages": dict(self.packages)}
        return {**attributes, "unigeo": attributes["unigeo"] | own}

    def computed_on(self, device: "torch.device") -> "Identity":
        """The same, with the kind of device among what rounds."""
        kind = device.type
        if kind == "cuda":
            import torch

            kind = torch.cuda.get_device_name(device)
        return replace(self, packages={**self.packages, "device": kind})

    def _coded(self) -> str:
        return f"{self.code[:_SHOWN]} (unigeo {self.version})"

    def _remedy(self, other: "Identity") -> str:
        if self._coded() != other._coded():
            return "Install the same unigeo there, without edits, and start the worker again."
        if (self.weights, self.settings) != (other.weights, other.settings):
            return "Copy the model to the same path on that machine, and start the worker again."
        return "Copy the observations to the same path on that machine, and start the worker again."


@dataclass(frozen=True, eq=False)
class Equipment:
    """What a process makes vectors with."""

    encode: Any
    """The model and its observations: an `Encode`, or one in two halves (`Staged`)."""
    land: Land
    identity: Identity = field(default_factory=Identity)


def _short(value: str) -> str:
    return value if " " in value else value[:_SHOWN] or "not known"


def check_code(found: Mapping[str, Any], wanted: Mapping[str, Any], url: Any) -> None:
    """Compare the code that began a store with the code that would go on with it.

    Args:
        found: the `unigeo` attribute of the store that is being built.
        wanted: that of this run.
        url: of the store, for messages.

    Raises:
        OtherIdentityError: naming both versions and what to do.
    """
    if found.get("code_sha256") != wanted.get("code_sha256"):
        there, here = (
            f"unigeo {own['code_version']} with sources {_short(own.get('code_sha256') or '')}"
            for own in (found, wanted)
        )
        raise OtherIdentityError(
            f"{url} was begun by {there}, and this is {here}: a store is never finished by other "
            "code, which may make other vectors. Go on with the unigeo that began it, or name "
            "another --out, or remove the store first."
        )
    for name, there in (found.get("packages") or {}).items():
        here = (wanted.get("packages") or {}).get(name, there)
        if here != there:
            warn_of_rounding(name, there, here)


def warn_of_rounding(name: str, one: str, other: str) -> None:
    """Warn that parts of a store are computed by versions or devices that round differently."""
    warnings.warn(
        f"parts of this store are computed by {name} {one} and by {name} {other}, which may round "
        "differently: a number of a vector may differ by one step from that of a store that is "
        "made by one of them alone",
        RoundingWarning,
        stacklevel=3,
    )


def identity_of(
    weights: str, settings: "ModelSettings", observations: Observations, interpolate: int
) -> Identity:
    """The identity of a process that has opened a model and observations.

    Args:
        weights: SHA-256 of the model's weights.
        settings: of the model.
        observations: as opened.
        interpolate: side of the squares of cells of which one coordinate is encoded.
    """
    from unigeo.producer.observations.folder import FolderObservations

    inner = innermost(observations)
    seen = inner.likeness() if isinstance(inner, FolderObservations) else inner.provenance()
    return Identity(
        weights=weights,
        settings=_digest([asdict(settings), interpolate]),
        observations=_digest(seen),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
