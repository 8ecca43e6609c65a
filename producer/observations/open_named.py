"""Opening of observations by the argument of a command: a description, a set, or none."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unigeo.producer.observations.protocol import Observations


def open_named(path: str | None, data: str | None) -> "Observations":
    """Open the observations of a description or a set, or the embedded world.

    Args:
        path: an `observations.toml`, or folder or address of a set; None for the embedded world.
        data: data folder of the description, instead of the one that it names.
    """
    if path is None:
        from unigeo.producer.observations.synthetic.world import World

        return World()
    if is_set(path):
        from unigeo.producer.observations.observation_set.set_observations import (
            open_observation_set,
        )

        return open_observation_set(path)
    from unigeo.producer.observations.folder.open_folder import open_observations

    return open_observations(path, None if data is None else Path(data))


def is_set(path: str) -> bool:
    """Return whether a path names a set of `unigeo-produce observe`: a folder or an address."""
    return "://" in path or Path(path).is_dir()
