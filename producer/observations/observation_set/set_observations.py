"""A finished set, as observations: every place is one of its own, found again by its position."""

import hashlib
import json
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
from unigeo.producer.observations.observation_set import index
from unigeo.producer.observations.observation_set.height_images import decode_heights
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.observations.observation_set.tar_shards import decode_image
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import ImageModality, Observations
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.tables.points import check_lonlat

SAME_LOCATION_M = 1.0
"""A point nearer to a place of the set than this is that place."""
THREADS = 4
"""Parts read at once."""
PART = 64
"""Places read together."""
GROUP = 16
"""Shards whose samples are shuffled together."""


@dataclass(frozen=True, eq=False)
class SetObservations(Observations):
    """A set that `unigeo-produce observe` built; `open_observation_set` opens it."""

    store: ObjectFolder
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

    def shape(self, modality: ImageModality) -> tuple[int, int, int]:
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
        from unigeo.schemas.geo.regions import Region

        rings = tuple(np.array(ring) for ring in self.about["region"])
        return Region("set", rings, "EPSG:8857").contains(lonlat)

    def patches(self, modality: ImageModality, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
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
        wanted = np.flatnonzero([row >= 0 and reasons[row] == "" for row in rows])
        wanted = wanted[np.argsort(self.rows["shard"][rows[wanted]], kind="stable")]
        for point, seen in zip(wanted, self._read(rows[wanted], (modality,)), strict=True):
            values[point], valid[point] = seen[modality], True
        return Patches(values, valid)

    def heights(self, lonlat: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point row col"]:
        """Metres of the surface round each point as observed: NaN at voids, and where none was.

        Raises:
            ObservationsError: the set has no surface, or a shard is damaged.
            StoreError: the set cannot be reached.
        """
        metres = np.full((len(lonlat), *self.shape("dsm")[1:]), np.nan, np.float32)
        rows = self._rows_at(lonlat)
        wanted = np.flatnonzero([r >= 0 and self.rows["dsm_reason"][r] == "" for r in rows])
        for point, seen in zip(wanted, self._read(rows[wanted], ("dsm",), fill=False), strict=True):
            metres[point] = seen["dsm"][0]  # type: ignore[index]
        return metres

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
    def lonlat(self) -> Float[np.ndarray, "location 2"]:
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
        for row, seen in zip(own, self._read(own, tuple(self.about["shapes"])), strict=True):
            yield {
                "row": int(row),
                "lonlat": self.lonlat[row],
                "text": self.rows["text"][row],
                "panorama": int(self.rows["panorama"][row]),
            } | seen

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
        return self._places.nearest(lonlat, SAME_LOCATION_M)

    @cached_property
    def _places(self) -> LocationTable:
        import pandas as pd

        return LocationTable(pd.DataFrame({"key": self.rows["key"]}), self.lonlat)

    def _read(
        self, rows: Int[np.ndarray, " location"], modalities: Sequence[str], fill: bool = True
    ) -> Iterator[dict[str, np.ndarray | None]]:
        """Read and decode the patches of places, in their order; `fill` the voids of heights."""
        parts = iter([rows[first : first + PART] for first in range(0, len(rows), PART)])
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="read")

        def begun(count: int) -> list[Future[list[dict[str, np.ndarray | None]]]]:
            return [
                pool.submit(self._read_part, part, modalities, fill)
                for part in islice(parts, count)
            ]

        try:
            ahead = deque(begun(2 * THREADS))
            while ahead:
                found = ahead.popleft().result()
                ahead += begun(1)
                yield from found
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_part(
        self, rows: Int[np.ndarray, " location"], modalities: Sequence[str], fill: bool
    ) -> list[dict[str, np.ndarray | None]]:
        """The same of a few places: each shard is asked once for all that is wanted of it."""
        found: list[dict[str, np.ndarray | None]] = [dict.fromkeys(modalities) for _ in rows]
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
                found[k][modality] = self._decoded(modality, rows[k], data, name, fill)
        return found

    def _decoded(
        self, modality: str, row: np.int64, data: memoryview, name: str, fill: bool
    ) -> np.ndarray:
        shown = f"{self.store.url}/{name}"
        if modality != "dsm":
            return decode_image(data, tuple(self.about["shapes"][modality][1:]), shown)
        offset, scale = self.rows["dsm_offset_m"][row], self.rows["dsm_scale_m"][row]
        metres = decode_heights(data, float(offset), float(scale), shown)
        void = np.isnan(metres)
        if fill and void.any():
            metres[void] = metres[~void].mean()
        return metres[None]


def open_observation_set(url: str, split: str = "train") -> SetObservations:
    """Open a finished set.

    Args:
        url: a folder, `https://...`, `s3://...` and so on.
        split: the part that places are drawn from: train, spatial, region or temporal.

    Raises:
        ObservationsError: there is no finished set, or it is of a version that is not read.
        StoreError: it cannot be reached.
    """
    store = ObjectFolder(url)
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
    opened = SetObservations(store, about, index.read_columns(data, url), split)
    if not len(opened.members):
        raise ObservationsError(
            f"{url} has no places of the part {split!r}; it has {about['counts']['splits']}."
        )
    return opened
