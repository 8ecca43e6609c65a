"""Observations from a finished set: those of a location of the set are found by its position."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.observations.folder.location_tables import LocationTable
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.observation_set import index
from unigeo.producer.observations.observation_set.height_images import decode_heights
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.observations.observation_set.tar_shards import decode_image
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.provenance import CONTENTS
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.tables.points import check_lonlat

SAME_LOCATION_M = 1.0
"""Distance below which a point is the same location as one of the set."""
THREADS = 4
"""Number of parts read concurrently."""
PART = 64
"""Number of locations read together."""
GROUP = 16
"""Number of shards whose samples are shuffled together."""


@dataclass(frozen=True, eq=False)
class SetObservations(Observations):
    """A set that `unigeo-produce observe` built; `open_observation_set` opens it."""

    store: ObjectFolder
    about: dict[str, Any]
    """Contents of `set.json`."""
    rows: dict[str, Any]
    """Columns of the index: one entry per location, `observation_set.index.SCHEMA`."""
    split: str = "train"
    """Split that locations are drawn from."""
    _gaps: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name, for logs and the model card."""
        return str(self.about["name"])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        return tuple(self.about["modalities"])

    def shape(self, modality: str) -> tuple[int, int, int]:
        """Return channels, rows and columns of the modality's patches.

        Raises:
            ObservationsError: the set has no such modality.
        """
        if modality not in self.about["shapes"]:
            raise ObservationsError(
                f"{self.name} has no {modality}; it has {', '.join(self.modalities)}."
            )
        channels, rows, cols = self.about["shapes"][modality]
        return channels, rows, cols

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw locations of the split, each at most once; all of them if it has fewer."""
        # The order does not depend on `count`: a smaller draw is the beginning of a larger one.
        chosen = np.random.default_rng(seed).permutation(self.members)[:count]
        drawn: Float[np.ndarray, "point 2"] = self.lonlat[chosen]
        return drawn

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Return whether each point is in the region that the set was made for."""
        check_lonlat(lonlat)
        from unigeo.schemas.geo.regions import Region

        rings = tuple(np.array(ring) for ring in self.about["region"])
        return Region("set", rings, "EPSG:8857").contains(lonlat)

    def covers_land(self, modality: str) -> bool:
        """Return whether a modality exists everywhere: a set observes its locations alone."""
        return modality == COORDINATE

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Read the patch of each point that is a location of the set; others have none.

        Voids of a surface model are filled with the mean of the other heights.

        Raises:
            ObservationsError: the set has no such modality, or a shard is damaged.
            StoreError: the set cannot be reached.
        """
        shape = self.shape(modality)
        rows = self._rows_at(lonlat)
        dtype = np.float32 if modality == "dsm" else np.uint8
        values = np.zeros((len(lonlat), *shape), dtype)
        valid = np.zeros(len(lonlat), bool)
        reasons = self.rows[f"{modality}_reason"]
        for row in rows:
            if (reason := "no such place" if row < 0 else reasons[row]) != "":
                self._gaps.setdefault(modality, Counter())[reason] += 1
        wanted = np.flatnonzero([row >= 0 and reasons[row] == "" for row in rows])
        # Sorted by shard, so that one request per part and shard reads many patches.
        wanted = wanted[np.argsort(self.rows["shard"][rows[wanted]], kind="stable")]
        for point, patches in zip(wanted, self._read(rows[wanted], (modality,)), strict=True):
            values[point], valid[point] = patches[modality], True
        return Patches(values, valid)

    def heights(self, lonlat: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point row col"]:
        """Read the surface model round each point in metres, NaN where nothing was observed.

        Raises:
            ObservationsError: the set has no surface model, or a shard is damaged.
            StoreError: the set cannot be reached.
        """
        metres = np.full((len(lonlat), *self.shape("dsm")[1:]), np.nan, np.float32)
        rows = self._rows_at(lonlat)
        wanted = np.flatnonzero([r >= 0 and self.rows["dsm_reason"][r] == "" for r in rows])
        patches = self._read(rows[wanted], ("dsm",), fill_voids=False)
        for point, patch in zip(wanted, patches, strict=True):
            metres[point] = patch["dsm"][0]  # type: ignore[index]
        return metres

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """Return the text of each point that is a location of the set; None for others."""
        texts = self.rows["text"]
        return [None if row < 0 else texts[row] for row in self._rows_at(lonlat)]

    def panoramas(self, lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"]:
        """Return the number of the panorama that each street image was cut from; -1 for none."""
        rows = self._rows_at(lonlat)
        # Row -1 reads the last entry, which `where` discards.
        return np.where(rows < 0, -1, self.rows["panorama"][rows]).astype(np.int64)

    def gaps(self) -> dict[str, dict[str, int]]:
        """Count the requested observations that were missing so far, by modality and reason."""
        return {modality: dict(counts) for modality, counts in self._gaps.items()}

    def provenance(self) -> dict[str, Any]:
        """Return, as JSON, what `set.json` holds of sources, licences, counts and hashes."""
        keys = ("name", "licence", "citation", "settings", "plan", "index_sha256", "counts")
        told = {key: self.about[key] for key in keys} | {"split": self.split}
        contents = self.about.get(CONTENTS)
        return told if contents is None else told | {CONTENTS: contents}

    @cached_property
    def lonlat(self) -> Float[np.ndarray, "location 2"]:
        """Every location of the set, of all splits."""
        return np.stack([self.rows["lon"], self.rows["lat"]], axis=1)

    @cached_property
    def members(self) -> Int[np.ndarray, " member"]:
        """Rows of the split."""
        return np.flatnonzero(np.array([part == self.split for part in self.rows["split"]], bool))

    def epoch(
        self, epoch: int = 0, seed: int = 0, rank: int = 0, ranks: int = 1, start: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Iterate over the samples of the split, in an order that seed and epoch determine.

        Shards are drawn in random order, `GROUP` at a time, and the samples of a group shuffled.

        Args:
            epoch: number of the epoch.
            seed: seed of the order.
            rank: which of the ranks this is; it gets every `ranks`-th sample.
            ranks: number of ranks; all get equally many samples, so the last few may be left out.
            start: number of this rank's samples to skip, to resume an epoch.

        Returns:
            A mapping per sample: `row`, `lonlat`, `text`, `panorama`, and each image modality's
            patch or None.
        """
        order = self.order(epoch, seed)
        rows = order[: len(order) // ranks * ranks][rank::ranks][start:]
        for row, patches in zip(rows, self._read(rows, tuple(self.about["shapes"])), strict=True):
            yield {
                "row": int(row),
                "lonlat": self.lonlat[row],
                "text": self.rows["text"][row],
                "panorama": int(self.rows["panorama"][row]),
            } | patches

    def order(self, epoch: int, seed: int) -> Int[np.ndarray, " member"]:
        """Return the rows of the split in the order of an epoch."""
        rng = np.random.default_rng([seed, epoch])
        # A full shuffle would read every shard for every batch; groups of shards are a compromise.
        shard = self.rows["shard"][self.members]
        shards = rng.permutation(np.unique(shard))
        shuffled = [np.empty(0, np.int64)]
        for first in range(0, len(shards), GROUP):
            group = self.members[np.isin(shard, shards[first : first + GROUP])]
            shuffled.append(rng.permutation(group))
        return np.concatenate(shuffled)

    def verify(self) -> list[str]:
        """List the shards that are missing, or whose bytes are not those that were written."""
        bad = []
        for number, expected in enumerate(self.about["shards"]):
            data = self.store.get(f"shards/{number:06d}.tar")
            if data is None or hashlib.sha256(data).hexdigest() != expected["sha256"]:
                bad.append(f"shards/{number:06d}.tar")
        return bad

    def _rows_at(self, lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"]:
        """Find the row of each point; -1 for a point that is no location of the set."""
        check_lonlat(lonlat)
        return self._locations.nearest(lonlat, SAME_LOCATION_M)

    @cached_property
    def _locations(self) -> LocationTable:
        import pandas as pd

        return LocationTable(pd.DataFrame({"key": self.rows["key"]}), self.lonlat)

    def _read(
        self, rows: Int[np.ndarray, " location"], modalities: Sequence[str], fill_voids: bool = True
    ) -> Iterator[dict[str, np.ndarray | None]]:
        """Read and decode the patches of locations, in the order of `rows`."""
        parts = iter([rows[first : first + PART] for first in range(0, len(rows), PART)])
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="read")

        def submit(count: int) -> list[Future[list[dict[str, np.ndarray | None]]]]:
            return [
                pool.submit(self._read_part, part, modalities, fill_voids)
                for part in islice(parts, count)
            ]

        try:
            # Two parts per thread are under way: one is read while another waits to be yielded.
            pending = deque(submit(2 * THREADS))
            while pending:
                samples = pending.popleft().result()
                pending += submit(1)
                yield from samples
        finally:  # also when the consumer stops early
            pool.shutdown(cancel_futures=True)

    def _read_part(
        self, rows: Int[np.ndarray, " location"], modalities: Sequence[str], fill_voids: bool
    ) -> list[dict[str, np.ndarray | None]]:
        """Read and decode the patches of a few locations, with one request per shard."""
        result: list[dict[str, np.ndarray | None]] = [dict.fromkeys(modalities) for _ in rows]
        wanted: dict[int, list[tuple[int, str]]] = {}
        for k, row in enumerate(rows):
            for name in modalities:
                if self.rows[f"{name}_reason"][row] == "":
                    wanted.setdefault(int(self.rows["shard"][row]), []).append((k, name))
        for number, members in wanted.items():
            name = f"shards/{number:06d}.tar"
            spans = [
                (int(self.rows[f"{m}_at"][rows[k]]), int(self.rows[f"{m}_bytes"][rows[k]]))
                for k, m in members
            ]
            for (k, modality), data in zip(members, self.store.ranges(name, spans), strict=True):
                result[k][modality] = self._decode(modality, rows[k], data, name, fill_voids)
        return result

    def _decode(
        self, modality: str, row: np.int64, data: memoryview, name: str, fill_voids: bool
    ) -> np.ndarray:
        label = f"{self.store.url}/{name}"
        if modality != "dsm":
            return decode_image(data, tuple(self.about["shapes"][modality][1:]), label)
        offset, scale = self.rows["dsm_offset_m"][row], self.rows["dsm_scale_m"][row]
        metres = decode_heights(data, float(offset), float(scale), label)
        void = np.isnan(metres)
        if fill_voids and void.any():
            metres[void] = metres[~void].mean()
        return metres[None]


def open_observation_set(url: str, split: str = "train") -> SetObservations:
    """Open a finished set.

    Args:
        url: a folder, or an address such as `https://...` or `s3://...`.
        split: split that locations are drawn from: train, spatial, region or temporal.

    Raises:
        ObservationsError: there is no finished set, or its version is not supported.
        StoreError: the set cannot be reached.
    """
    store = ObjectFolder(url)
    text = store.get("set.json")
    if text is None:
        begun = store.get("plan.json") is not None
        raise ObservationsError(
            f"{url}: "
            + (
                "the set is not finished; run `unigeo-produce observe` again, it goes on."
                if begun
                else "there is no set (no set.json). Name the folder or address of one."
            )
        )
    about = load_json(text)
    if about.get("version") != index.VERSION:
        raise ObservationsError(
            f"{url} is a set of version {about.get('version')}; this unigeo reads {index.VERSION}."
        )
    data = store.get("locations.parquet") or b""
    if hashlib.sha256(data).hexdigest() != about["index_sha256"]:
        raise ObservationsError(f"{url}/locations.parquet is not the one written; copy it again.")
    observations = SetObservations(store, about, index.read_columns(data, url), split)
    if not len(observations.members):
        raise ObservationsError(
            f"{url} has no places of the part {split!r}; it has {about['counts']['splits']}."
        )
    return observations
