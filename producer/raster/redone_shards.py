"""Shards to be made again because an input file that could not be read was replaced.

Shards that touch only the sound parts of a damaged file are finished without failures. The new file
may differ there too, so every shard in its reach is made again.
"""

from collections.abc import Collection

import numpy as np

from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.leases import Leases
from unigeo.producer.raster.planning import Task, planned
from unigeo.schemas.geo.bounds import shard_bounds
from unigeo.schemas.geo.great_circle import degree_margins
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import COVARIATES, FUSED, Layout


def touched(
    observations: Observations, files: Collection[str], grid: Grid, layout: Layout
) -> list[Task]:
    """Find the tasks whose patches may reach into some raster files.

    Args:
        observations: observations of the field.
        files: names of the files in the provenance.
        grid: grid of the field.
        layout: layout of the field.
    """
    west, south, east, north = np.moveaxis(shard_bounds(grid, layout.shard), 2, 0)
    seam = west > east  # a shard across the antimeridian may reach any longitude
    west, east = np.where(seam, -180.0, west), np.where(seam, 180.0, east)
    steepest = np.maximum(np.abs(south), np.abs(north))
    made_of_others = tuple(name for name in (COVARIATES, FUSED) if name in layout.arrays)
    tasks = set()
    for modality in layout.modalities:
        rasters = observations.rasters_of(modality)
        if rasters is None:
            continue
        wide, high = degree_margins(max(frame.patch_m for frame in rasters.frames), steepest)
        for source in rasters.sources:
            if rasters.file_name(source.path) not in files:
                continue
            left, bottom, right, top = source.reach
            near = (west - wide <= right) & (east + wide >= left)
            near &= (south - high <= top) & (north + high >= bottom)
            tasks |= {
                Task(name, int(row), int(col))
                for row, col in np.argwhere(near)
                for name in (modality, *made_of_others)
            }
    return sorted(tasks)


def redo_shards(
    leases: Leases,
    url: str,
    observations: Observations,
    files: Collection[str],
    grid: Grid,
    layout: Layout,
) -> None:
    """Record the finished shards in reach of replaced files as failed, so that they are redone."""
    missing = planned(url, grid, layout)
    failed = leases.failed()
    for task in touched(observations, files, grid, layout):
        if task not in missing and task not in failed:
            about = {"failures": {f"{task.modality}: a file was replaced": 0}}
            leases.note_failed(task, about | {"damaged": sorted(files)})
