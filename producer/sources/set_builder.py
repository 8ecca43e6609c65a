"""Building of a set, shard by shard, so that a build that was killed resumes with the next shard.

The locations are a function of the settings. A shard holds locations of one coarse cell. Its
archive is written before its index, whose presence means that the shard is finished; `set.json` is
written last. A set that was interrupted and resumed is byte for byte that of an unbroken build.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.observation_set import index
from unigeo.producer.observations.observation_set.height_images import encode_heights
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.observations.observation_set.tar_shards import encode_image, pack
from unigeo.producer.observations.provenance import CONTENTS
from unigeo.producer.sources.change_clauses import join_clauses
from unigeo.producer.sources.earlier_set import EarlierSet
from unigeo.producer.sources.findings import Finding, KeptValue, ObservationSource
from unigeo.producer.sources.input_files import describe_changes, identify_inputs
from unigeo.producer.sources.set_contents import contents_of_set, contents_of_shard
from unigeo.producer.sources.set_counts import count_observations
from unigeo.producer.sources.set_description import SetDescription
from unigeo.producer.sources.set_plan import SetPlan, check_items, claim_store, used_items
from unigeo.producer.sources.splits import BORDER, hold_out_years
from unigeo.schemas.io.json_text import load_json

KEY_STRIDE = 1 << 20
"""Distance between the first keys of consecutive shards, so that keys do not depend on the size of
other shards."""


def build(
    plan: SetPlan,
    sources: dict[str, ObservationSource],
    store: ObjectFolder,
    *,
    workers: int = 2,
    show_progress: Callable[[int, int], None] = lambda done, total: None,
    earlier: EarlierSet | None = None,
) -> list[bytes]:
    """Build the shards that are not finished yet.

    Args:
        plan: the locations by shard.
        sources: the source of each modality.
        store: where the set is stored.
        workers: number of shards built concurrently.
        show_progress: called with the number of finished shards, and of all.
        earlier: set that holds what the sources find unchanged.

    Returns:
        The index of each shard.

    Raises:
        ObservationsError: the store holds another set, or one of other input files.
        ReplacedError: an input file or an image of a catalogue was replaced during the build.
        StoreError: a source or the store cannot be reached; finished shards stay.
    """
    claim_store(plan, store)
    names = [f"shards/{number:06d}" for number in range(len(plan.shards))]
    indices = [store.get(name + ".parquet") for name in names]
    check_items([data for data in indices if data is not None], sources, store.url)
    missing = [number for number, data in enumerate(indices) if data is None]
    done = len(names) - len(missing)
    show_progress(done, len(names))
    with ThreadPoolExecutor(workers, thread_name_prefix="build") as pool:
        pending = set()
        remaining = iter(missing)
        try:
            while True:
                for number in remaining:
                    pending.add(pool.submit(_build_shard, plan, sources, store, number, earlier))
                    if len(pending) >= workers:
                        break
                if not pending:
                    break
                completed, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in completed:
                    number, data = future.result()
                    indices[number] = data
                    done += 1
                    show_progress(done, len(names))
        finally:  # also when a shard failed
            for future in pending:
                future.cancel()
    changes = describe_changes(plan.inputs, identify_inputs(plan.description)) if missing else []
    if changes:
        raise ReplacedError(
            f"while {store.url} was built, {join_clauses(changes)}. Shards of both may be in it: "
            "remove the set, or name another --out."
        )
    return [data for data in indices if data is not None]


def _build_shard(
    plan: SetPlan,
    sources: dict[str, ObservationSource],
    store: ObjectFolder,
    number: int,
    earlier: EarlierSet | None,
) -> tuple[int, bytes]:
    """Observe the locations of a shard and write its archive and index; return the index."""
    rows = plan.shards[number]
    lonlat = plan.locations.lonlat[rows]
    results = {modality: source.observe(lonlat) for modality, source in sources.items()}
    if earlier is not None:
        earlier.count_taken(results)
    lines: list[dict[str, Any]] = []
    members: list[tuple[str, bytes]] = []
    for k, row in enumerate(rows):
        findings = {modality: result.findings[k] for modality, result in results.items()}
        line, files = _encode(
            number * KEY_STRIDE + k, findings, plan.description.kept.quality, earlier
        )
        line |= {
            "shard": number,
            "lon": float(lonlat[k, 0]),
            "lat": float(lonlat[k, 1]),
            "cell": int(plan.locations.cell[row]),
            "split": plan.splits[row],
        }
        lines.append(line)
        members += files
    # Years are known only now; a training location may thus become one of the temporal split.
    _hold_out_years(lines, plan.description.splits.temporal_years)
    shard = pack(members)
    contents = contents_of_shard(lines, dict(members))
    for line in lines:
        for modality, name in (line.pop("_files")).items():
            line[f"{modality}_at"], line[f"{modality}_bytes"] = shard.spans[name]
    name = f"shards/{number:06d}"
    about = {"sha256": hashlib.sha256(shard.data).hexdigest(), "bytes": str(len(shard.data))}
    about["unusable"] = json.dumps(
        {modality: dict(sorted(result.unusable.items())) for modality, result in results.items()}
    )
    about[CONTENTS] = json.dumps(contents)
    about["items"] = json.dumps(
        {modality: dict(sorted(result.items.items())) for modality, result in results.items()}
    )
    data = index.to_parquet(lines, about)
    # The index last: a build that is killed in between writes the archive once more.
    store.put(name + ".tar", shard.data)
    store.put(name + ".parquet", data)
    return number, data


def _encode(
    key: int, findings: dict[str, Finding], quality: int, earlier: EarlierSet | None
) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """Encode one location as a row of the index and members of the archive."""
    line: dict[str, Any] = {"key": key, "panorama": -1, "_files": {}}
    files = []
    for modality in index.OBSERVED:
        finding = findings.get(modality)
        if finding is None:
            line[f"{modality}_reason"] = "not asked"
            continue
        origin = finding.origin
        line |= {
            f"{modality}_item": origin.item,
            f"{modality}_date": origin.date,
            f"{modality}_licence": origin.licence,
            f"{modality}_credit": origin.credit,
            f"{modality}_reason": finding.reason,
            f"{modality}_numbers": json.dumps(dict(sorted(origin.numbers.items()))),
        }
        if finding.value is None:
            continue
        if modality == "text":
            line["text"] = finding.value
            files.append((f"{key:012d}.txt", finding.value.encode()))
            continue
        value = finding.value
        if isinstance(value, KeptValue):
            assert earlier is not None
            data = earlier.read(value)
        if modality == "dsm":
            if not isinstance(value, KeptValue):
                value = encode_heights(value)
                data = value.png
            line |= {"dsm_offset_m": value.offset_m, "dsm_scale_m": value.scale_m}
        elif not isinstance(value, KeptValue):
            data = encode_image(value, quality)
        ending = "jpg" if quality and modality != "dsm" else "png"
        name = f"{key:012d}.{modality}.{ending}"
        if modality == "street":
            line["panorama"] = origin.panorama
        line["_files"][modality] = name
        files.append((name, data))
    # The member KEY.json, for readers of WebDataset that do not know the index.
    about = {k: v for k, v in line.items() if not k.startswith("_") and v not in ("", None)}
    files.append((f"{key:012d}.json", json.dumps(about, sort_keys=True).encode()))
    return line, files


def _hold_out_years(lines: list[dict[str, Any]], years: Sequence[int]) -> None:
    """Move training locations with an observation in one of the years to the temporal split."""
    in_years = [
        any(set(years) & set(dates.years(line.get(f"{m}_date") or "")) for m in index.OBSERVED)
        for line in lines
    ]
    splits = hold_out_years(np.array(in_years, bool), [line["split"] for line in lines])
    for line, split in zip(lines, splits, strict=True):
        line["split"] = split


def finish(
    plan: SetPlan, sources: dict[str, ObservationSource], store: ObjectFolder, indices: list[bytes]
) -> dict[str, Any]:
    """Write the index of the set, which joins those of its shards.

    Returns:
        The contents of `set.json`, which the caller writes.
    """
    set_index = index.concatenate(indices)
    rows = index.read_columns(set_index, "the index")
    modalities = [name for name in index.OBSERVED if name in sources]
    description = plan.description
    about = {
        "version": index.VERSION,
        "name": description.name,
        "licence": description.licence,
        "citation": description.citation,
        "modalities": ["coordinate", *modalities],
        "shapes": _shapes(description),
        "settings": description.model_dump(mode="json"),
        "plan": plan.digest(),
        "inputs": plan.inputs,
        "items": {name: dict(sorted(used.items())) for name, used in used_items(indices).items()},
        "region": [np.round(np.asarray(ring, float), 7).tolist() for ring in plan.region.rings],
        "border": plan.splits.count(BORDER),
        "index_sha256": hashlib.sha256(set_index).hexdigest(),
        "shards": [
            {key: index.read_metadata(data)[key] for key in ("sha256", "bytes")} for data in indices
        ],
        "counts": count_observations(rows, modalities, description.located().areas),
        "unusable": _count_unusable(indices, modalities),
    }
    contents = contents_of_set(indices, modalities)
    if contents is not None:
        about[CONTENTS] = contents
    store.put("locations.parquet", set_index)
    return about


def _count_unusable(
    indices: Sequence[bytes], modalities: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count the skipped images by reason; one that several shards skipped counts once."""
    unusable = {name: unusable_items(indices, name) for name in modalities}
    return {m: dict(sorted(Counter(names.values()).items())) for m, names in unusable.items()}


def unusable_items(indices: Sequence[bytes], modality: str) -> dict[str, str]:
    """Return the images that the shards skipped, and the reason for each."""
    names: dict[str, str] = {}
    for data in indices:
        names |= load_json(index.read_metadata(data)["unusable"]).get(modality, {})
    return names


def _shapes(description: SetDescription) -> dict[str, list[int]]:
    """Return channels, rows and columns of the patches of each image modality."""
    shapes = {}
    if description.aerial is not None:
        shapes["aerial"] = [len(description.aerial.bands), *[description.aerial.patch_px] * 2]
    if description.street is not None:
        shapes["street"] = [3, *[description.street.patch_px] * 2]
    if description.dsm is not None:
        shapes["dsm"] = [1, *[description.dsm.patch_px] * 2]
    return shapes
