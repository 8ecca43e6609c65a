"""A finished set, as observations: every place is one of its own, found again by its position."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.observations import index
from unigeo.producer.observations.objects import Objects
from unigeo.producer.observations.protocol import Patches, Picture
from unigeo.producer.observations.shards import decode_heights, decode_picture
from unigeo.producer.observations.tables import PlaceTable
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.points import check_lonlat

SAME_PLACE_M = 1.0
"""A point nearer to a place of the set than this is that place."""
THREADS = 4
"""Shards read at once."""
GROUP = 16
"""Shards whose samples are shuffled together."""


@dataclass(frozen=True, eq=False)
class RecordedObservations:
    """A set that `unigeo-produce observe` built; `open_recorded` opens it."""

    store: Objects
    about: dict[str, Any]
    """What its `set.json` says."""
    rows: dict[str, Any]
    """Its index."""
    split: str = "train"
    """The part that places are drawn from."""
    _gaps: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name, for logs and the model card."""
        return str(self.about["name"])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        return tuple(self.about["modalities"])

    def shape(self, modality: Picture) -> tuple[int, int, int]:
        """Channels, rows and columns of the modality's patches.

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
        """Draw places of the part `split`, each at most once: fewer than asked if it has fewer."""
        chosen = np.random.default_rng(seed).permutation(self.members)[:count]
        drawn: Float[np.ndarray, "point 2"] = self.lonlat[chosen]
        return drawn

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Whether each point is in the region that the set was made for."""
        check_lonlat(lonlat)
        from unigeo.schemas.regions import Region

        rings = tuple(np.array(ring) for ring in self.about["region"])
        return Region("set", rings, "EPSG:8857").contains(lonlat)

    def patches(self, modality: Picture, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Look up the patch of each point that is a place of the set; others have none.

        Voids of a surface model get the mean height of the rest.

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
        wanted = np.array([row >= 0 and reasons[row] == "" for row in rows], bool)
        for point, patch in self._read(modality, rows, np.flatnonzero(wanted)):
            values[point], valid[point] = patch, True
        return Patches(values, valid)

    def texts(self, lonlat: Float[np.ndarray, "point 2"]) -> list[str | None]:
        """The words of each point that is a place of the set; else None."""
        words = self.rows["text"]
        return [None if row < 0 else words[row] for row in self._rows_at(lonlat)]

    def panoramas(self, lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"]:
        """Number of the panorama that each place's street picture was cut from; -1 for none."""
        rows = self._rows_at(lonlat)
        return np.where(rows < 0, -1, self.rows["panorama"][rows]).astype(np.int64)

    def gaps(self) -> dict[str, dict[str, int]]:
        """How many observations asked for so far were missing, by modality and reason."""
        return {modality: dict(counts) for modality, counts in self._gaps.items()}

    def provenance(self) -> dict[str, Any]:
        """JSON: what `set.json` says of sources, licences, counts and hashes."""
        kept = ("name", "licence", "citation", "settings", "plan", "index_sha256", "counts")
        return {key: self.about[key] for key in kept} | {"split": self.split}

    @cached_property
    def lonlat(self) -> Float[np.ndarray, "place 2"]:
        """Every place of the set."""
        return np.stack([self.rows["lon"], self.rows["lat"]], axis=1)

    @cached_property
    def members(self) -> Int[np.ndarray, " member"]:
        """Rows of the part `split`."""
        return np.flatnonzero(np.array([part == self.split for part in self.rows["split"]], bool))

    def epoch(
        self, epoch: int = 0, seed: int = 0, rank: int = 0, ranks: int = 1, start: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Give the samples of the part `split` once, in an order of seed and epoch alone.

        Shards are drawn in random order, `GROUP` at a time, and their samples mixed. Of that order
        each of several ranks gets every `ranks`-th sample; the last few that would give one rank
        more than another are left for another epoch. `start` skips so many samples of this rank:
        where an epoch stopped, it goes on.

        Returns:
            By sample: `row`, `lonlat`, `text`, `panorama`, and each modality's patch or None.
        """
        order = self.order(epoch, seed)
        own = order[: len(order) // ranks * ranks][rank::ranks][start:]
        for first in range(0, len(own), 256):
            part = own[first : first + 256]
            found: dict[str, dict[int, Any]] = {}
            for modality in self.about["shapes"]:
                reasons = self.rows[f"{modality}_reason"]
                there = np.flatnonzero([reasons[row] == "" for row in part])
                found[modality] = dict(self._read(modality, part, there))
            for k, row in enumerate(part):
                yield {
                    "row": int(row),
                    "lonlat": self.lonlat[row],
                    "text": self.rows["text"][row],
                    "panorama": int(self.rows["panorama"][row]),
                } | {modality: found[modality].get(k) for modality in found}

    def order(self, epoch: int, seed: int) -> Int[np.ndarray, " member"]:
        """The rows of the part `split` in the order of an epoch."""
        rng = np.random.default_rng([seed, epoch])
        shard = self.rows["shard"][self.members]
        shards = rng.permutation(np.unique(shard))
        mixed = [np.empty(0, np.int64)]
        for first in range(0, len(shards), GROUP):
            group = self.members[np.isin(shard, shards[first : first + GROUP])]
            mixed.append(rng.permutation(group))
        return np.concatenate(mixed)

    def verify(self) -> list[str]:
        """Names of shards that are missing, or whose bytes are not those that were written."""
        bad = []
        for number, said in enumerate(self.about["shards"]):
            data = self.store.get(f"shards/{number:06d}.tar")
            if data is None or hashlib.sha256(data).hexdigest() != said["sha256"]:
                bad.append(f"shards/{number:06d}.tar")
        return bad

    def _rows_at(self, lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"]:
        check_lonlat(lonlat)
        return self._places.nearest(lonlat, SAME_PLACE_M)

    @cached_property
    def _places(self) -> PlaceTable:
        import pandas as pd

        return PlaceTable(pd.DataFrame({"key": self.rows["key"]}), self.lonlat)

    def _read(
        self, modality: str, rows: Int[np.ndarray, " point"], wanted: Int[np.ndarray, " member"]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Read and decode patches, shard by shard."""
        if not len(wanted):
            return
        shard = self.rows["shard"][rows[wanted]]
        groups = [wanted[shard == number] for number in np.unique(shard)]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="read") as pool:
            for part in pool.map(self._reader(modality, rows), groups):
                yield from part

    def _reader(
        self, modality: str, rows: Int[np.ndarray, " point"]
    ) -> Callable[[Int[np.ndarray, " member"]], list[tuple[int, np.ndarray]]]:
        at, size = self.rows[f"{modality}_at"], self.rows[f"{modality}_bytes"]

        def read(points: Int[np.ndarray, " member"]) -> list[tuple[int, np.ndarray]]:
            name = f"shards/{int(self.rows['shard'][rows[points[0]]]):06d}.tar"
            spans = [(int(at[rows[p]]), int(size[rows[p]])) for p in points]
            shown = f"{self.store.url}/{name}"
            found = []
            for point, data in zip(points, self.store.ranges(name, spans), strict=True):
                row = rows[point]
                if modality == "dsm":
                    offset, scale = self.rows["dsm_offset_m"][row], self.rows["dsm_scale_m"][row]
                    patch = decode_heights(data, float(offset), float(scale), shown)[None]
                    patch = np.where(np.isnan(patch), np.nanmean(patch), patch)
                else:
                    patch = decode_picture(data, shown)
                found.append((int(point), patch))
            return found

        return read


def open_recorded(url: str, split: str = "train") -> RecordedObservations:
    """Open a finished set.

    Args:
        url: a folder, `https://...`, `s3://...` and so on.
        split: the part that places are drawn from: train, spatial, region or temporal.

    Raises:
        ObservationsError: there is no finished set, or it is of a version that is not read.
        StoreError: it cannot be reached.
    """
    store = Objects(url)
    said = store.get("set.json")
    if said is None:
        begun = store.get("plan.json") is not None
        raise ObservationsError(
            f"{url}: "
            + (
                "the set is not finished; run `unigeo-produce observe` again, it goes on."
                if begun
                else "there is no set (no set.json). Name the folder or address of one."
            )
        )
    about = json.loads(said)
    if about.get("version") != index.VERSION:
        raise ObservationsError(
            f"{url} is a set of version {about.get('version')}; this unigeo reads {index.VERSION}."
        )
    data = store.get("locations.parquet") or b""
    if hashlib.sha256(data).hexdigest() != about["index_sha256"]:
        raise ObservationsError(f"{url}/locations.parquet is not the one written; copy it again.")
    opened = RecordedObservations(store, about, index.columns(data, url), split)
    if not len(opened.members):
        raise ObservationsError(
            f"{url} has no places of the part {split!r}; it has {about['counts']['splits']}."
        )
    return opened
