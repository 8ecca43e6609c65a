"""Publication of a finished store: derived groups first, then the manifest, and the root last.

A publication that was killed at any point is continued by the same call; nothing that it writes
depends on when it runs or how often it was interrupted.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import zarr

from unigeo.producer.publishing.concepts import ConceptVectors, write_concepts
from unigeo.producer.publishing.derive import NOTES, derive, directions_of
from unigeo.producer.publishing.manifest import run_entry, write_manifest
from unigeo.producer.publishing.overviews import create_overviews, overview_arrays, write_sizes
from unigeo.producer.publishing.preview import build_pyramid, create_preview, preview_attributes
from unigeo.producer.publishing.releases import runs_of
from unigeo.producer.publishing.search_levels import create_search
from unigeo.producer.publishing.updates import refuse_lost_cells
from unigeo.producer.raster.planning import plan
from unigeo.producer.storage.field_store import is_published
from unigeo.producer.storage.objects import delete_objects, list_objects, need_object, write_object
from unigeo.producer.storage.retrying_store import retrying
from unigeo.producer.storage.staged_groups import add_array, new_group, replace_group
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors
from unigeo.schemas.store.attributes import read_attributes
from unigeo.schemas.store.encoder import GROUP as ENCODER
from unigeo.schemas.store.encoder import weight_dimensions
from unigeo.schemas.store.overviews import GROUP as OVERVIEWS
from unigeo.schemas.store.overviews import overview_attributes, overview_path, pyramid_attributes
from unigeo.schemas.store.preview import GROUP as PREVIEW
from unigeo.schemas.store.published_attributes import DIGEST, attributes_digest, held_attributes
from unigeo.schemas.store.search_levels import GROUP as SEARCH
from unigeo.schemas.store.search_levels import search_attributes, search_path, searched_modalities
from unigeo.schemas.store.validation import field_problems

Stage = Callable[[str], AbstractContextManager[object]]
"""Returns the context in which a named part of the work is done."""


def publish(
    group: zarr.Group,
    *,
    encoder: Mapping[str, np.ndarray] | None = None,
    encoder_settings: Mapping[str, Any] | None = None,
    concepts: ConceptVectors | None = None,
    previous: Any = None,
    allow_loss: bool = False,
    progress: bool = False,
    stage: Stage = lambda name: nullcontext(),
) -> zarr.Group:
    """Write derived groups, encoder, concepts, manifest, and last the root as `published`.

    Args:
        group: the root of a store whose every shard is written.
        encoder: the coordinate encoder's weights, so that a reader can evaluate it off the grid.
        encoder_settings: settings to rebuild the encoder.
        concepts: phrases and their vectors, so that a reader can search by text.
        previous: URL or store of the previous release, if shards were taken over from it.
        allow_loss: whether much of what was valid in the previous release may be gone.
        progress: show a bar on stderr.
        stage: encloses the parts `colours` and `deriving`, to time them.

    Returns:
        The published root.

    Raises:
        StoreError: if the store is published already, shards are missing, it cannot be written, or
            much of the previous release's valid area is lost.
        LayoutError: if the store does not keep the layout.
    """
    try:
        if is_published(group):
            raise StoreError(
                f"{group.store} is published, and a release never changes; make the next one with "
                "unigeo-produce --update, or a field of its own under another --out"
            )
        group = zarr.open_group(
            retrying(group.store), mode="r+", path=group.path, use_consolidated=False
        )
        return _publish(
            group,
            encoder,
            encoder_settings or {},
            concepts,
            previous,
            allow_loss=allow_loss,
            progress=progress,
            stage=stage,
        )
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot publish the store: {describe_error(error)}") from error


def _publish(
    group: zarr.Group,
    encoder: Mapping[str, np.ndarray] | None,
    encoder_settings: Mapping[str, Any],
    concepts: ConceptVectors | None,
    previous: Any,
    *,
    allow_loss: bool,
    progress: bool,
    stage: Stage,
) -> zarr.Group:
    attributes = dict(group.attrs)
    field = read_attributes(attributes, str(group.store))
    grid, layout = field.grid.grid(), field.field_layout()
    remaining = plan(group, grid, layout)
    if remaining:
        raise StoreError(f"{len(remaining)} shards are not written yet, the first: {remaining[0]}")
    problems = field_problems(group)
    if problems:
        raise LayoutError("the store does not keep the layout: " + "; ".join(problems))
    published = field.model_copy(update={"state": "published"}).model_dump(mode="json")
    # Both digests are computed below, from attributes that must not contain them.
    for key in ("manifest_sha256", DIGEST):
        published.pop(key, None)
    with stage("colours"):
        directions = directions_of(group, layout)
    # Arrays are created before their chunks are written, and each group's own metadata after them:
    # a reader never finds an overview or a preview that is half full.
    create_preview(group, grid, layout, directions.colours)
    factors = create_overviews(group, grid, layout)
    searched = create_search(group, grid, layout, directions.search)
    with stage("deriving"):
        facts, made = derive(group, field, directions, factors, progress=progress)
    if previous is not None and not allow_loss:
        refuse_lost_cells(previous, field, facts)
    build_pyramid(group, grid, layout)
    _consolidate(group, preview_attributes(grid, layout), f"{PREVIEW}/")
    shards = layout.shards(grid)
    for factor in searched:
        arrays = dict.fromkeys(searched_modalities(layout), 3)
        write_sizes(group, search_path(factor), arrays, shards, made)
    if searched:
        _consolidate(group, search_attributes(grid, layout), f"{SEARCH}/")
    for factor in factors:
        write_sizes(group, overview_path(factor), overview_arrays(layout), shards, made)
        coarse = overview_attributes({**attributes, "unigeo": published}, grid, factor)
        _consolidate(group, coarse, f"{overview_path(factor)}/")
    if factors:
        _consolidate(group, pyramid_attributes(grid, factors), f"{OVERVIEWS}/")
    if encoder is not None:
        _write_encoder(group, encoder, encoder_settings)
    if concepts is not None:
        write_concepts(group, concepts, layout)
    runs: list[dict[str, Any]] = []
    run_of = None
    if previous is not None:
        runs, run_of = runs_of(previous, field, facts, group.store)
    runs.append(run_entry(published))
    held = held_attributes({**attributes, "unigeo": published})
    published[DIGEST] = attributes_digest(held)
    published["manifest_sha256"] = write_manifest(
        group, grid, layout, facts, made, runs, run_of, held=held
    )
    delete_objects(group.store, NOTES)
    # Last: this one write turns the store into a published one.
    _consolidate(group, {**attributes, "unigeo": published})
    return zarr.open_group(group.store, mode="r", zarr_format=3, use_consolidated=True)


def _write_encoder(
    group: zarr.Group, weights: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> None:
    encoder = new_group({"settings": dict(settings)})
    for name in sorted(weights):
        values = np.asarray(weights[name])
        add_array(encoder, name, values, weight_dimensions(values.shape))
    replace_group(group.store, ENCODER, encoder)


def _consolidate(group: zarr.Group, attributes: Mapping[str, Any], prefix: str = "") -> None:
    """Write a group's metadata in one object: its attributes and all metadata below it."""
    store, group_key = group.store, f"{prefix}zarr.json"
    documents = {
        key: load_json(need_object(store, key))
        for key in list_objects(store, prefix)
        if key.endswith("/zarr.json") and key != group_key
    }
    nodes = {
        key.removeprefix(prefix).removesuffix("/zarr.json"): _without_consolidated(node)
        for key, node in documents.items()
    }
    document = {
        "attributes": attributes,
        "zarr_format": 3,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": nodes},
        "node_type": "group",
    }
    write_object(store, group_key, json.dumps(document, separators=(",", ":")).encode())


def _without_consolidated(document: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a group or array without the metadata below it."""
    return {key: value for key, value in document.items() if key != "consolidated_metadata"}
