"""Observations of an earlier set, which another set takes over where they would be the same.

A set is a function of its settings, input files and catalogues. An observation of one location
depends on a part of them: an image on the items of the catalogue that it is cut from, a text on the
features round it. Where this part is the same in both sets, the encoded bytes of the earlier one
are those that observing again would give.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unigeo.producer.observations.observation_set import index
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.sources.change_clauses import describe_settings
from unigeo.producer.sources.findings import (
    KeptFinding,
    KeptModality,
    KeptValue,
    SourceFindings,
)
from unigeo.producer.sources.input_files import InputFile, describe_changes
from unigeo.producer.sources.set_description import SetDescription
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.json_text import load_json

_ARCHIVES = 4
"""Number of archives of the earlier set that are held in memory."""
_ORIGIN_KEYS = {"licence", "credit", "note"}
_CHOICE_KEYS = _ORIGIN_KEYS | {"years", "per_second", "files"}
"""Keys that say which image is chosen or what is told of it, and not what is cut from it."""
_FREE_KEYS = {
    "aerial": _CHOICE_KEYS
    | {"prefer", "date", "cloudiest", "coarsest_m", "acquired", "collections", "sign", "sign_url"},
    "street": _CHOICE_KEYS | {"panoramas", "radius_m", "token", "table", "blurred"},
    "text": _ORIGIN_KEYS | {"per_second"},
}
_FREE_KEYS["dsm"] = _FREE_KEYS["aerial"] | {"datum"}


@dataclass(eq=False)
class EarlierSet:
    """A set, finished or not, from which observations are taken over."""

    store: ObjectFolder
    changes: Sequence[str]
    """What differs between the settings and files of both sets: a clause for each."""
    modalities: Mapping[str, KeptModality]
    taken: Counter[str] = field(default_factory=Counter)
    """Number of observations that were taken over so far, by modality."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each archive, by name."""
    _archives: dict[str, bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_taken(self, results: Mapping[str, SourceFindings]) -> None:
        """Add what was taken over of a shard to `taken`."""
        counts = {
            name: sum(one.kept and one.value is not None for one in part.findings)
            for name, part in results.items()
        }
        with self._lock:
            self.taken.update(counts)

    def read(self, kept: KeptValue) -> bytes:
        """Read the bytes of an observation.

        Raises:
            ObservationsError: the archive is damaged or gone.
        """
        with self._lock:  # several shards are built at once
            archive = self._archives.get(kept.archive)
            if archive is None:
                archive = self.store.get(kept.archive) or b""
                if hashlib.sha256(archive).hexdigest() != self.digests[kept.archive]:
                    raise ObservationsError(
                        f"{self.store.url}/{kept.archive} is damaged, so nothing can be taken over "
                        "from it. Copy it again, or leave out --from."
                    )
                while len(self._archives) >= _ARCHIVES:
                    self._archives.pop(next(iter(self._archives)))
                self._archives[kept.archive] = archive
        return archive[kept.start : kept.start + kept.size]


def open_earlier_set(
    url: str, description: SetDescription, inputs: Sequence[InputFile]
) -> EarlierSet:
    """Open a set, finished or not, to take over observations of it.

    Args:
        url: folder or address of the set.
        description: settings of the set to be made.
        inputs: records of its files.

    Raises:
        ObservationsError: there is no set, or one that does not say what it was made of.
        StoreError: it cannot be reached.
    """
    store = ObjectFolder(url)
    plan = store.get_json("plan.json")
    if plan is None:
        raise ObservationsError(f"--from {url}: there is no set; it would have a file plan.json.")
    finished = store.get_json("set.json") or {}
    settings = plan.get("described") or finished.get("settings")
    if settings is None or "inputs" not in plan or plan.get("version") != index.VERSION:
        raise ObservationsError(
            f"--from {url}: that set was begun by another version of unigeo and does not say what "
            "it was made of, so nothing can be taken over from it. Leave out --from."
        )
    now = description.model_dump(mode="json")
    modalities: dict[str, KeptModality] = {}
    changes = [*describe_settings(settings, now), *describe_changes(plan["inputs"], inputs)]
    earlier = EarlierSet(store, changes, modalities)
    usable = [name for name in index.OBSERVED if _is_usable(name, settings, now, plan, inputs)]
    findings: dict[str, dict[tuple[float, float], KeptFinding]] = {name: {} for name in usable}
    items: dict[str, dict[str, str]] = {name: {} for name in usable}
    # A web server does not list what it has; a finished set says how many shards there are.
    numbered = [f"shards/{number:06d}.parquet" for number in range(len(finished.get("shards", [])))]
    for name in numbered or store.names("shards", ".parquet"):
        part = store.get(name) or b""
        metadata = index.read_metadata(part, f"{url}/{name}")
        archive = name.removesuffix("parquet") + "tar"
        earlier.digests[archive] = metadata["sha256"]
        rows = index.read_columns(part, f"{url}/{name}")
        of_shard = load_json(metadata.get("items", "{}"))
        for modality in usable:
            items[modality] |= of_shard.get(modality, {})
            findings[modality] |= _findings_of(modality, rows, archive)
    for modality in usable:
        same = _unchanged_files(modality, plan["inputs"], inputs)
        modalities[modality] = KeptModality(findings[modality], items[modality], same)
    return earlier


def _is_usable(
    modality: str,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    plan: Mapping[str, Any],
    inputs: Sequence[InputFile],
) -> bool:
    """Return whether equal items give equal observations of a modality in both sets."""
    old, new = before.get(modality), now[modality]
    if old is None or new is None:
        return False
    # The items of a terrain model are not recorded for each location: all must be the same.
    with_terrain = modality == "dsm" and new["ground"] == "terrain"
    free = _ORIGIN_KEYS if with_terrain else _FREE_KEYS[modality]
    if any(old.get(key) != new.get(key) for key in {*old, *new} - free):
        return False
    records = [
        [one for one in files if one["table"] == modality] for files in (plan["inputs"], inputs)
    ]
    if modality == "text":
        # A caption describes the aerial image that is chosen now; a text, features of all files.
        same = new["caption"] is None and records[0] == records[1]
        return same and bool(before["seed"] == now["seed"])
    if modality == "dsm":
        return not with_terrain or (new["kind"] == "files" and records[0] == records[1])
    seeded = modality != "street" or before["seed"] == now["seed"]
    return seeded and bool(before["kept"]["quality"] == now["kept"]["quality"])


def _findings_of(
    modality: str, rows: Mapping[str, Any], archive: str
) -> dict[tuple[float, float], KeptFinding]:
    """Return the observations of a shard that another set may take over, by location."""
    findings = {}
    for row, reason in enumerate(rows[f"{modality}_reason"]):
        value: KeptValue | str | None
        if modality == "text":
            if reason not in ("", "nothing to say"):
                continue
            value = None if reason else rows["text"][row]
        elif reason:
            continue
        else:
            heights = modality == "dsm"
            value = KeptValue(
                archive,
                int(rows[f"{modality}_at"][row]),
                int(rows[f"{modality}_bytes"][row]),
                float(rows["dsm_offset_m"][row]) if heights else None,
                float(rows["dsm_scale_m"][row]) if heights else None,
            )
        findings[float(rows["lon"][row]), float(rows["lat"][row])] = KeptFinding(
            value=value,
            item=rows[f"{modality}_item"][row] or "",
            numbers=load_json(rows[f"{modality}_numbers"][row] or "{}"),
        )
    return findings


def _unchanged_files(
    modality: str, before: Sequence[InputFile], now: Sequence[InputFile]
) -> frozenset[str]:
    """Return the names, without folders, of files that are the same in both sets.

    So are all files that are read with them, such as overviews. Names that several files share are
    left out.
    """
    old, new = (
        {one["file"]: one for one in files if one["table"] == modality} for files in (before, now)
    )
    stems = {file: str(Path(file).with_suffix("")) for file in old | new}
    changed = {stems[file] for file in stems if old.get(file) != new.get(file)}
    names = [Path(file).name for file in new]
    return frozenset(
        Path(file).name
        for file, stem in stems.items()
        if names.count(Path(file).name) == 1
        and not any(stem.startswith(other) or other.startswith(stem) for other in changed)
    )
