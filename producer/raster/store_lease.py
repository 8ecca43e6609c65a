"""What one run shares with others on the same store: claims, failures, and the turn to publish."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import zarr

from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.leases import PUBLISH, Leases, open_leases, remove_empty_folder
from unigeo.producer.raster.planning import Tasks
from unigeo.producer.raster.redone_shards import redo_shards
from unigeo.producer.storage.field_store import is_published, sweep
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import Layout


class StoreLease:
    """The leases of one run on a store; it becomes visible to other runs when it first uses them.

    A run that only looks whether the store is published writes nothing beside it.
    """

    def __init__(self, url: str, stack: ExitStack) -> None:
        """Take the store's URL, and a stack that is closed when the run ends."""
        self._url, self._stack = url, stack
        self._leases = open_leases(url)
        self._entered = False

    @property
    def leases(self) -> Leases | None:
        """The leases, with a heartbeat from now on; None where the store cannot have any."""
        if self._leases is not None and not self._entered:
            self._entered = True
            self._stack.callback(remove_empty_folder, self._url)
            self._stack.enter_context(self._leases)
        return self._leases

    def damaged_files(self) -> frozenset[str]:
        """Return the input files that earlier runs could not read."""
        if self._leases is None:
            return frozenset()
        records = self._leases.failed().values()
        return frozenset(name for record in records for name in record["damaged"])

    def redo(
        self, observations: Observations, grid: Grid, layout: Layout, files: list[str]
    ) -> None:
        """Have the finished shards made again that may show files which were replaced."""
        if self.leases is not None:
            redo_shards(self.leases, self._url, observations, files, grid, layout)

    def redo_lost(self, tasks: Tasks) -> None:
        """Have shards of a published store made again, objects of which were lost."""
        if self.leases is not None:
            for task in tasks:
                about = {"failures": {f"{task.modality}: an object was lost": 0}, "damaged": []}
                self.leases.note_failed(task, about)

    def clean_up(self) -> None:
        """Remove what a run left that was killed after it had published."""
        if self._leases is not None:
            self._leases.sweep()
            remove_empty_folder(self._url)

    def wait_to_publish(self, group: zarr.Group) -> bool:
        """Wait until no other run publishes, and clean up; False if one has published."""
        if self.leases is not None:
            self._stack.enter_context(self.leases.wait_for(PUBLISH))
            self.leases.sweep()
            if is_published(group):
                return False
        sweep(group)
        return True


@contextmanager
def lease_store(url: str) -> Iterator[StoreLease]:
    """Share a store with other runs; everything is released at the end."""
    with ExitStack() as stack:
        yield StoreLease(url, stack)
