"""The plan of a set: its locations by shard, and the check that a store was begun with it.

A store holds the plan with which it was begun, so that no other settings, locations or input files
are mixed into its set.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from unigeo.producer.observations.observation_set import index
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.sources import s2
from unigeo.producer.sources.change_clauses import describe_settings, join_clauses
from unigeo.producer.sources.findings import ItemSource, ObservationSource
from unigeo.producer.sources.input_files import InputFile, describe_changes
from unigeo.producer.sources.location_sampling import SampledLocations
from unigeo.producer.sources.set_description import SetDescription
from unigeo.producer.sources.splits import BORDER
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.io.json_text import load_json


@dataclass(frozen=True, eq=False)
class SetPlan:
    """The locations of a set, divided into shards."""

    description: SetDescription
    region: Region
    locations: SampledLocations
    splits: list[str]
    """Split of each location."""
    shards: list[Int[np.ndarray, " _"]]
    """Rows of `locations` in each shard."""
    inputs: list[InputFile] = field(default_factory=list)
    """Records of the files that the settings name, made before any was read."""

    def settings_digest(self) -> str:
        """Return SHA-256 of settings and locations."""
        digest = hashlib.sha256(self.description.digest().encode())
        digest.update(np.ascontiguousarray(self.locations.lonlat).tobytes())
        digest.update("".join(self.splits).encode())
        return digest.hexdigest()

    def digest(self) -> str:
        """Return SHA-256 of settings, locations and input files."""
        files = json.dumps(self.inputs, sort_keys=True)
        return hashlib.sha256(f"{self.settings_digest()} {files}".encode()).hexdigest()


def plan_shards(
    description: SetDescription,
    region: Region,
    locations: SampledLocations,
    splits: list[str],
    inputs: list[InputFile],
) -> SetPlan:
    """Divide the locations that are in a split into shards of one coarse cell each."""
    in_split = np.array([name != BORDER for name in splits])
    if not in_split.any():
        raise ObservationsError(
            f"{description.name}: every place lies at the border of a split, so none is left. Hold "
            "out larger cells, or fewer."
        )
    coarse = s2.parents(locations.cell, description.kept.shard_level)
    shards: list[np.ndarray] = []
    for cell in np.unique(coarse):
        members = np.flatnonzero((coarse == cell) & in_split)
        count = -(-len(members) // description.kept.shard_places)
        shards += np.array_split(members, count) if count else []
    return SetPlan(description, region, locations, splits, shards, inputs)


def claim_store(plan: SetPlan, store: ObjectFolder) -> None:
    """Write `plan.json`, or compare it with the one in the store.

    Raises:
        ObservationsError: the store holds a set of another plan, or a file of a new set is not
            there.
    """
    mine = {
        "set": plan.description.name,
        "version": index.VERSION,
        "settings": plan.settings_digest(),
        "inputs": plan.inputs,
        "plan": plan.digest(),
    }
    described = {"described": plan.description.model_dump(mode="json")}
    text = (json.dumps(mine | described, indent=1) + "\n").encode()
    known = store.get_json("plan.json")
    absent = [one for one in plan.inputs if "missing" in one]
    if known is None and absent:
        clauses = [f"[{one['table']}] {one['file']}: {one['missing']}" for one in absent]
        raise ObservationsError(f"a set cannot be made without its files: {join_clauses(clauses)}")
    begun = {} if known is None else known
    before = begun.pop("described", None)  # which earlier versions did not write
    if known is not None and begun != mine:
        remedy = (
            f"name another --out, with --from {store.url} to take over what is the same, or remove "
            "that set."
        )
        # Say which of the things that make up the plan differs.
        if begun.get("settings") == mine["settings"]:
            changes = describe_changes(begun["inputs"], plan.inputs)
            raise ObservationsError(
                f"{store.url} was made of other files: {join_clauses(changes)}. It would become a "
                f"mixture. Put back what it was made of, {remedy}"
            )
        if begun.get("plan") == mine["settings"]:  # written by a version that recorded no files
            raise ObservationsError(
                f"{store.url} was begun by an older unigeo, which did not note what its files "
                f"were; whether they are still the same cannot be told. To make it anew {remedy}"
            )
        changes = [] if before is None else describe_settings(before, described["described"])
        what = (
            f"other settings ({join_clauses(changes)})"
            if changes
            else "places that another version of unigeo chose"
            if before is not None
            else "other settings, places or version"
        )
        raise ObservationsError(
            f"{store.url} holds a set of {what}; it would become a mixture. To make yours, {remedy}"
        )
    store.remove_partial_files()
    if known is None:
        store.put("plan.json", text)


def check_items(indices: Sequence[bytes], sources: dict[str, ObservationSource], url: str) -> None:
    """Check that the catalogues' images from which finished shards were cut are still the same.

    Raises:
        ObservationsError: an image was replaced or removed.
    """
    items = used_items(indices)
    for modality, source in sources.items():
        if not isinstance(source, ItemSource) or not items.get(modality):
            continue
        current = source.current_items(sorted(items[modality]))
        changes = [
            f"[{modality}] the image {name} {'changed' if name in current else 'is gone'}"
            for name, digest in sorted(items[modality].items())
            if current.get(name) != digest
        ]
        if changes:
            raise ObservationsError(
                f"{url} was made of what its catalogue had then: {join_clauses(changes)}. It would "
                "become a mixture. Name another --out, or remove that set."
            )


def used_items(indices: Sequence[bytes]) -> dict[str, dict[str, str]]:
    """Return the images of catalogues that shards were cut from, by modality, and their hashes."""
    items: dict[str, dict[str, str]] = {}
    for data in indices:
        for modality, digests in load_json(index.read_metadata(data).get("items", "{}")).items():
            items.setdefault(modality, {}).update(digests)
    return items
