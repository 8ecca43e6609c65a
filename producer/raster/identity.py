"""Identity of the vectors that a process makes; processes that fill one store must agree on it.

Model, observations and code are compared by hash: a path may mean another folder on another
machine, and a checkout may have been edited. Other versions of torch and numpy only round
differently, so they cause a warning and no error.
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

    from unigeo.producer.encoders.model_settings import ModelSettings


@dataclass(frozen=True, kw_only=True)
class VectorIdentity:
    """Hashes of all that decides the vectors of a process, in hexadecimal."""

    weights: str = ""
    """SHA-256 of the model's weights."""
    settings: str = ""
    """Digest of the model's settings and of the interpolation."""
    observations: str = ""
    """Digest of the observations' identity."""
    version: str = field(default_factory=code_version)
    code: str = field(default_factory=code_sha256)
    packages: Mapping[str, str] = field(default_factory=packages)

    def check(self, other: "VectorIdentity", who: str) -> None:
        """Compare another process with this one.

        Args:
            other: the identity of that process.
            who: name of that process at the start of the message.

        Raises:
            OtherIdentityError: naming what differs, both values, and what to do.
        """
        faults = [
            f"{words} {shorten(theirs)} there, {shorten(ours)} here"
            for words, ours, theirs in (
                ("the model's weights are", self.weights, other.weights),
                ("the model's settings are", self.settings, other.settings),
                ("the observations are", self.observations, other.observations),
                ("the code is", self._code_text(), other._code_text()),
            )
            if ours != theirs
        ]
        if faults:
            raise OtherIdentityError(
                f"{who} would write other vectors than this store holds: {'; '.join(faults)}. "
                f"{self._remedy(other)} Then run the same command again: what was written is kept."
            )

    def makes_the_same(self, other: "VectorIdentity") -> bool:
        """Return whether another process makes the same vectors, up to rounding."""
        return replace(self, packages={}) == replace(other, packages={})

    def mark(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Add code and packages to the root's attributes."""
        made_by = {"code_sha256": self.code, "packages": dict(self.packages)}
        return {**attributes, "unigeo": attributes["unigeo"] | made_by}

    def computed_on(self, device: "torch.device") -> "VectorIdentity":
        """Add the kind of device, which may round differently, to the packages."""
        kind = device.type
        if kind == "cuda":
            import torch

            kind = torch.cuda.get_device_name(device)
        return replace(self, packages={**self.packages, "device": kind})

    def _code_text(self) -> str:
        return f"{self.code[:SHOWN]} (unigeo {self.version})"

    def _remedy(self, other: "VectorIdentity") -> str:
        if self._code_text() != other._code_text():
            return "Install the same unigeo there, without edits, and start the worker again."
        if (self.weights, self.settings) != (other.weights, other.settings):
            return "Copy the model to the same path on that machine, and start the worker again."
        return "Copy the observations to the same path on that machine, and start the worker again."


def identity_of(
    weights: str, settings: "ModelSettings", observations: Observations, interpolate: int
) -> VectorIdentity:
    """Return the identity of a process that has opened a model and observations.

    Args:
        weights: SHA-256 of the model's weights.
        settings: settings of the model.
        observations: the opened observations.
        interpolate: side of the squares of cells of which one coordinate is encoded.
    """
    return VectorIdentity(
        weights=weights,
        settings=_digest([asdict(settings), interpolate]),
        observations=_digest(observations.identity()),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
