"""Opening of observations by the argument of a command: a description, a set, or none."""

from pathlib import Path
from typing import TYPE_CHECKING

from unigeo.schemas.errors import ObservationsError

if TYPE_CHECKING:
    from unigeo.producer.observations.protocol import Observations
    from unigeo.schemas.geo.regions import Region

WORLD = "world"
"""Name of the synthetic world."""


def open_named(path: str | None, data: str | None) -> "Observations":
    """Open the observations of a description or a set, or the synthetic world.

    Args:
        path: an `observations.toml`, or folder or address of a set; None or `WORLD` for the
            synthetic world.
        data: data folder of the description, instead of the one that it names.
    """
    if path is None or path == WORLD:
        from unigeo.producer.observations.synthetic.world import World

        return World()
    if is_set(path):
        from unigeo.producer.observations.observation_set.set_observations import (
            open_observation_set,
        )

        return open_observation_set(path)
    from unigeo.producer.observations.folder.open_folder import open_observations

    return open_observations(path, None if data is None else Path(data))


def included_observations(region: "Region") -> str:
    """Return the description of the open observations that come with the producer.

    Raises:
        ObservationsError: if a region lies beyond them.
    """
    from unigeo.producer.observations.open_conus import DESCRIPTION, EXTENT

    west, south, east, north = EXTENT
    left, bottom, right, top = region.bounds
    if left < west or bottom < south or right > east or top > north:
        # An east on the antimeridian is 180, one beyond it is negative.
        right = right if right <= 180 else right - 360
        raise ObservationsError(
            f"the observations that come with unigeo cover {west:g} to {east:g} degrees of "
            f"longitude and {south:g} to {north:g} of latitude, but {region.name} reaches from "
            f"{left:g} to {right:g} and {bottom:g} to {top:g}; name others with --observations "
            "(`unigeo-produce observe --help` makes a set of any region)"
        )
    return str(DESCRIPTION)


def is_set(path: str) -> bool:
    """Return whether a path names a set of `unigeo-produce observe`: a folder or an address."""
    return "://" in path or Path(path).is_dir()
