"""What decides the vectors of a store, as one process can tell it; all that fill a store agree.

The model, the observations and the code are compared by hash: a path may mean another folder on
another machine, and a checkout may have been edited. Versions of torch and numpy round products
differently and change nothing else, so they are compared and told, and not refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from unigeo.producer.observations.protocol import Observations
from unigeo.producer.storage.code_identity import (
    SHOWN,
    OtherIdentityError,
    code_sha256,
    code_version,
    packages,
    shorten,
)

if TYPE_CHECKING:
    import torch

    from unigeo.producer.encoders.settings import ModelSettings


@dataclass(frozen=True, kw_only=True)
class VectorIdentity:
    """What decides the vectors that a process makes; hashes are hexadecimal."""

    weights: str = ""
    """SHA-256 of the model's weights."""
    settings: str = ""
    """Digest of its settings, and of how it is used."""
    observations: str = ""
    """Digest of what is observed, and of how."""
    version: str = field(default_factory=code_version)
    code: str = field(default_factory=code_sha256)
    packages: Mapping[str, str] = field(default_factory=packages)

    def check(self, other: "VectorIdentity", who: str) -> None:
        """Compare another process with this one.

        Args:
            other: the identity of that process.
            who: how the message names it, at the start of a sentence.

        Raises:
            OtherIdentityError: naming what differs, both values, and what to do.
        """
        faults = [
            f"{words} {shorten(theirs)} there, {shorten(own)} here"
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

    def makes_the_same(self, other: "VectorIdentity") -> bool:
        """Whether another process makes the same vectors, up to how it rounds."""
        return replace(self, packages={}) == replace(other, packages={})

    def mark(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The root's attributes with the code and the packages in them."""
        own = {"code_sha256": self.code, "packages": dict(self.packages)}
        return {**attributes, "unigeo": attributes["unigeo"] | own}

    def computed_on(self, device: "torch.device") -> "VectorIdentity":
        """The same, with the kind of device among what rounds."""
        kind = device.type
        if kind == "cuda":
            import torch

            kind = torch.cuda.get_device_name(device)
        return replace(self, packages={**self.packages, "device": kind})

    def _coded(self) -> str:
        return f"{self.code[:SHOWN]} (unigeo {self.version})"

    def _remedy(self, other: "VectorIdentity") -> str:
        if self._coded() != other._coded():
            return "Install the same unigeo there, without edits, and start the worker again."
        if (self.weights, self.settings) != (other.weights, other.settings):
            return "Copy the model to the same path on that machine, and start the worker again."
        return "Copy the observations to the same path on that machine, and start the worker again."


def identity_of(
    weights: str, settings: "ModelSettings", observations: Observations, interpolate: int
) -> VectorIdentity:
    """The identity of a process that has opened a model and observations.

    Args:
        weights: SHA-256 of the model's weights.
        settings: of the model.
        observations: as opened.
        interpolate: side of the squares of cells of which one coordinate is encoded.
    """
    return VectorIdentity(
        weights=weights,
        settings=_digest([asdict(settings), interpolate]),
        observations=_digest(observations.identity()),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
