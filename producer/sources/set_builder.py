"""Build a set: shard by shard, so that a build that was killed goes on with the next shard.

The places are a function of the settings. A shard holds places of one coarse cell; its archive is
written first, then its index, which says that it is finished. `set.json` is written last. A set
that was killed and finished is byte for byte the one of an unbroken build.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.observation_set import index
from unigeo.producer.observations.observation_set.height_images import encode_heights
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.observations.observation_set.tar_shards import encode_image, pack
from unigeo.producer.sources import s2
from unigeo.producer.sources.findings import Finding, ItemSource, ObservationSource
from unigeo.producer.sources.input_files import (
    InputFile,
    describe_changes,
    identify_inputs,
    join_clauses,
)
from unigeo.producer.sources.location_sampling import SampledLocations
from unigeo.producer.sources.set_counts import count_observations
from unigeo.producer.sources.set_description import SetDescription
from unigeo.producer.sources.splits import BORDER, hold_out_years
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region

KEY_STRIDE = 1 << 20
"""A stride of keys from shard to shard: a key never depends on the other shards."""


@dataclass(frozen=True, eq=False)
class SetPlan:
    """Places by shard."""

    table: SetDescription
    region: Region
    placed: SampledLocations
    parts: list[str]
    """Split of each place."""
    shards: list[Int[np.ndarray, " _"]]
    """Rows of the places of each shard."""
    inputs: list[InputFile] = field(default_factory=list)
    """The files that the settings name, as they were before any was read."""

    def settings_digest(self) -> str:
        """SHA-256 of settings and places."""
        words = hashlib.sha256(self.table.digest().encode())
        words.update(np.ascontiguousarray(self.placed.lonlat).tobytes())
        words.update("".join(self.parts).encode())
        return words.hexdigest()

    def digest(self) -> str:
        """SHA-256 of settings, places and files."""
        files = json.dumps(self.inputs, sort_keys=True)
        return hashlib.sha256(f"{self.settings_digest()} {files}".encode()).hexdigest()


def plan_shards(
    table: SetDescription,
    region: Region,
    placed: SampledLocations,
    parts: list[str],
    inputs: list[InputFile],
) -> SetPlan:
    """Cut the places, in the order of their cells, into shards of one coarse cell each."""
    kept = np.array([part != BORDER for part in parts])
    if not kept.any():
        raise ObservationsError(
            f"{table.name}: every place lies at the border of a split, so none is left. Hold out "
            "larger cells, or fewer."
        )
    coarse = s2.parents(placed.cell, table.kept.shard_level)
    shards: list[np.ndarray] = []
    for cell in np.unique(coarse):
        members = np.flatnonzero((coarse == cell) & kept)
        pieces = -(-len(members) // table.kept.shard_places)
        shards += np.array_split(members, pieces) if pieces else []
    return SetPlan(table, region, placed, parts, shards, inputs)


def build(
    plan: SetPlan,
    sources: dict[str, ObservationSource],
    store: ObjectFolder,
    *,
    workers: int = 2,
    finished: Callable[[int, int], None] = lambda done, all_: None,
) -> list[bytes]:
    """Build the shards that are not there yet.

    Args:
        plan: places.
        sources: by modality.
        store: where the set is kept.
        workers: shards built at once.
        finished: called with the number of finished shards, and of all.

    Returns:
        The index of each shard.

    Raises:
        ObservationsError: the folder holds another set, or one of other files.
        ReplacedError: a file or an image of a catalogue was replaced meanwhile.
        StoreError: a source or the store cannot be reached; what is finished stays.
    """
    _claim(plan, store)
    names = [f"shards/{number:06d}" for number in range(len(plan.shards))]
    there = [store.get(name + ".parquet") for name in names]
    _check_items([part for part in there if part is not None], sources, store.url)
    missing = [number for number, part in enumerate(there) if part is None]
    done = len(names) - len(missing)
    finished(done, len(names))
    with ThreadPoolExecutor(workers, thread_name_prefix="build") as pool:
        waiting = set()
        todo = iter(missing)
        try:
            while True:
                for number in todo:
                    waiting.add(pool.submit(_build_shard, plan, sources, store, number))
                    if len(waiting) >= workers:
                        break
                if not waiting:
                    break
                over, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in over:
                    number, part = future.result()
                    there[number] = part
                    done += 1
                    finished(done, len(names))
        finally:
            for future in waiting:
                future.cancel()
    told = describe_changes(plan.inputs, identify_inputs(plan.table)) if missing else []
    if told:
        raise ReplacedError(
            f"while {store.url} was built, {join_clauses(told)}. Shards of both may be in it: "
            "remove the set, or name another --out."
        )
    return [part for part in there if part is not None]


def _claim(plan: SetPlan, store: ObjectFolder) -> None:
    """Say whose the folder is, or find that it is another's."""
    mine = {
        "set": plan.table.name,
        "version": index.VERSION,
        "settings": plan.settings_digest(),
        "inputs": plan.inputs,
        "plan": plan.digest(),
    }
    text = (json.dumps(mine, indent=1) + "\n").encode()
    known = store.get("plan.json")
    if known is not None and known != text:
        remedy = "name another --out, or remove that set."
        begun = json.loads(known)
        if begun.get("settings") == mine["settings"]:
            told = describe_changes(begun["inputs"], plan.inputs)
            raise ObservationsError(
                f"{store.url} was made of other files: {join_clauses(told)}. It would become a "
                f"mixture. Put back what it was made of, {remedy}"
            )
        if begun.get("plan") == mine["settings"]:  # of before files were noted
            raise ObservationsError(
                f"{store.url} was begun by an older unigeo, which did not note what its files "
                f"were; whether they are still the same cannot be told. To make it anew {remedy}"
            )
        raise ObservationsError(
            f"{store.url} holds a set of other settings, places or version; it would become a "
            f"mixture. To make yours, {remedy}"
        )
    store.remove_partial_files()
    if known is None:
        store.put("plan.json", text)


def _check_items(parts: Sequence[bytes], sources: dict[str, ObservationSource], url: str) -> None:
    """Compare the catalogues' images that finished shards were cut from with what they are now.

    Raises:
        ObservationsError: one is another, or gone.
    """
    items = items_of(parts)
    for modality, source in sources.items():
        if not isinstance(source, ItemSource) or not items.get(modality):
            continue
        now = source.current_items(sorted(items[modality]))
        told = [
            f"[{modality}] the image {name} {'changed' if name in now else 'is gone'}"
            for name, identity in sorted(items[modality].items())
            if now.get(name) != identity
        ]
        if told:
            raise ObservationsError(
                f"{url} was made of what its catalogue had then: {join_clauses(told)}. It would "
                "become a mixture. Name another --out, or remove that set."
            )


def items_of(parts: Sequence[bytes]) -> dict[str, dict[str, str]]:
    """Images of catalogues that shards were cut from, by modality, and a hash of each."""
    items: dict[str, dict[str, str]] = {}
    for part in parts:
        for modality, told in json.loads(index.read_metadata(part).get("items", "{}")).items():
            items.setdefault(modality, {}).update(told)
    return items


def _build_shard(
    plan: SetPlan, sources: dict[str, ObservationSource], store: ObjectFolder, number: int
) -> tuple[int, bytes]:
    rows = plan.shards[number]
    lonlat = plan.placed.lonlat[rows]
    looks = {modality: source.observe(lonlat) for modality, source in sources.items()}
    found = {modality: look.findings for modality, look in looks.items()}
    lines, members = [], []
    for k, row in enumerate(rows):
        seen = {modality: values[k] for modality, values in found.items()}
        line, files = _encode(number * KEY_STRIDE + k, seen, plan.table.kept.quality)
        line |= {
            "shard": number,
            "lon": float(lonlat[k, 0]),
            "lat": float(lonlat[k, 1]),
            "cell": int(plan.placed.cell[row]),
            "split": plan.parts[row],
        }
        lines.append(line)
        members += files
    _hold_out_years(lines, plan.table.splits.temporal_years)
    shard = pack(members)
    for line in lines:
        for modality, name in (line.pop("_files")).items():
            line[f"{modality}_at"], line[f"{modality}_bytes"] = shard.spans[name]
    name = f"shards/{number:06d}"
    about = {"sha256": hashlib.sha256(shard.data).hexdigest(), "bytes": str(len(shard.data))}
    about["unusable"] = json.dumps(
        {modality: dict(sorted(look.unusable.items())) for modality, look in looks.items()}
    )
    about["items"] = json.dumps(
        {modality: dict(sorted(look.items.items())) for modality, look in looks.items()}
    )
    part = index.to_parquet(lines, about)
    store.put(name + ".tar", shard.data)
    store.put(name + ".parquet", part)
    return number, part


def _encode(
    key: int, seen: dict[str, Finding], quality: int
) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """One place as a row of the index and members of the archive."""
    line: dict[str, Any] = {"key": key, "panorama": -1, "_files": {}}
    files = []
    for modality in index.OBSERVED:
        one = seen.get(modality)
        if one is None:
            line[f"{modality}_reason"] = "not asked"
            continue
        origin = one.origin
        line |= {
            f"{modality}_item": origin.item,
            f"{modality}_date": origin.date,
            f"{modality}_licence": origin.licence,
            f"{modality}_credit": origin.credit,
            f"{modality}_reason": one.reason,
            f"{modality}_numbers": json.dumps(dict(sorted(origin.numbers.items()))),
        }
        if one.value is None:
            continue
        if modality == "text":
            line["text"] = one.value
            files.append((f"{key:012d}.txt", one.value.encode()))
            continue
        if modality == "dsm":
            heights = encode_heights(one.value)
            line |= {"dsm_offset_m": heights.offset_m, "dsm_scale_m": heights.scale_m}
            name, data = f"{key:012d}.dsm.png", heights.png
        else:
            name = f"{key:012d}.{modality}.{'jpg' if quality else 'png'}"
            data = encode_image(one.value, quality)
        if modality == "street":
            line["panorama"] = origin.panorama
        line["_files"][modality] = name
        files.append((name, data))
    about = {k: v for k, v in line.items() if not k.startswith("_") and v not in ("", None)}
    files.append((f"{key:012d}.json", json.dumps(about, sort_keys=True).encode()))
    return line, files


def _hold_out_years(lines: list[dict[str, Any]], years: Sequence[int]) -> None:
    """Move training places with an observation of a named year to the temporal part."""
    late = [
        any(set(years) & set(dates.years(line.get(f"{m}_date") or "")) for m in index.OBSERVED)
        for line in lines
    ]
    parts = hold_out_years(np.array(late, bool), [line["split"] for line in lines])
    for line, part in zip(lines, parts, strict=True):
        line["split"] = part


def finish(
    plan: SetPlan, sources: dict[str, ObservationSource], store: ObjectFolder, parts: list[bytes]
) -> dict[str, Any]:
    """Write the whole index and `set.json`.

    Returns:
        What `set.json` says.
    """
    whole = index.concatenate(parts)
    rows = index.read_columns(whole, "the index")
    modalities = [name for name in index.OBSERVED if name in sources]
    table = plan.table
    said = {
        "version": index.VERSION,
        "name": table.name,
        "licence": table.licence,
        "citation": table.citation,
        "modalities": ["coordinate", *modalities],
        "shapes": _shapes(table),
        "settings": table.model_dump(mode="json"),
        "plan": plan.digest(),
        "inputs": plan.inputs,
        "items": {name: dict(sorted(told.items())) for name, told in items_of(parts).items()},
        "region": [np.round(np.asarray(ring, float), 7).tolist() for ring in plan.region.rings],
        "border": plan.parts.count(BORDER),
        "index_sha256": hashlib.sha256(whole).hexdigest(),
        "shards": [
            {key: index.read_metadata(part)[key] for key in ("sha256", "bytes")} for part in parts
        ],
        "counts": count_observations(rows, modalities, table.areas),
        "unusable": _unusable(parts, modalities),
    }
    store.put("locations.parquet", whole)
    return said


def _unusable(parts: Sequence[bytes], modalities: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the images that were passed over by reason, each once."""
    told: dict[str, dict[str, str]] = {name: {} for name in modalities}
    for part in parts:
        for modality, names in json.loads(index.read_metadata(part)["unusable"]).items():
            told[modality] |= names
    return {m: dict(sorted(Counter(names.values()).items())) for m, names in told.items()}


def _shapes(table: SetDescription) -> dict[str, list[int]]:
    shapes = {}
    if table.aerial is not None:
        shapes["aerial"] = [len(table.aerial.bands), *[table.aerial.patch_px] * 2]
    if table.street is not None:
        shapes["street"] = [3, *[table.street.patch_px] * 2]
    if table.dsm is not None:
        shapes["dsm"] = [1, *[table.dsm.patch_px] * 2]
    return shapes
