"""Open observations by the name that a command gives them: a description, a set, or none."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unigeo.producer.observations.protocol import Observations


def open_named(path: str | None, data: str | None) -> "Observations":
    """Open the observations of a description, or the embedded world."""
    if path is None:
        from unigeo.producer.observations.synthetic.world import World

        return World()
    if is_set(path):
        from unigeo.producer.observations.observation_set.set_observations import (
            open_observation_set,
        )

        return open_observation_set(path)
    from unigeo.producer.observations.folder.folder_observations import open_observations

    return open_observations(path, None if data is None else Path(data))


def is_set(path: str) -> bool:
    """Whether observations are a set of `unigeo-produce observe`: a folder, or an address."""
    return "://" in path or Path(path).is_dir()
