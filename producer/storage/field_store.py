"""Create the store of a field, or open one that an earlier run began.

While a store is built, the root's state is `building` and its metadata is not consolidated, so that
no reader takes it for a complete one. Nothing in a store depends on when it was written.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zarr
from zarr.storage import LocalStore

from unigeo.producer.observations.provenance import deciding
from unigeo.producer.storage.code_identity import check_code
from unigeo.producer.storage.field_arrays import create_arrays
from unigeo.producer.storage.object_io import create, put
from unigeo.producer.storage.output_checks import holds_files, refuse_other_files
from unigeo.producer.storage.provenance_files import changed_files, without_files
from unigeo.producer.storage.retrying_store import retrying
from unigeo.producer.storage.staged_groups import new_group, objects_of
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.io.store_errors import MALFORMED, describe_error, unreachable_errors
from unigeo.schemas.io.stores import open_group, open_store
from unigeo.schemas.store.attributes import UnigeoAttributes, layout_attributes, read_attributes
from unigeo.schemas.store.covariates import Covariate
from unigeo.schemas.store.layout import LAYOUT_VERSION, Layout

_PRODUCT_KEYS = ("region", "grid", "layout", "model", "observations", "seed")
"""Keys of the `unigeo` attribute that are equal where two runs make the same product."""
_FIRST_RUN_KEYS = ("code_version", "packages")
"""Keys that keep the value of the run that began the store."""
Redo = Callable[[list[str]], None]
"""Called with the names of replaced input files, to have shards made again."""


def create_field(
    url: Any,
    grid: Grid,
    layout: Layout,
    attributes: dict[str, Any],
    damaged_files: frozenset[str] = frozenset(),
    redo: Redo = lambda files: None,
    covariates: Sequence[Covariate] = (),
) -> zarr.Group:
    """Create an empty field, or open the existing one if it is the same product.

    Args:
        url: a path, an object store's URL, or a Zarr store.
        grid: the cells; aligned to the layout's shards.
        layout: the arrays, and how they are divided into shards.
        attributes: attributes of the root, from `schemas.store.attributes.root_attributes`.
        damaged_files: input files that an earlier run could not read: these alone may differ from
            those of the existing field.
        redo: called with those that do, before the root names the new ones as the field's inputs.
        covariates: the covariates that the layout names, with their units and sources.

    Returns:
        The root group, writable, its metadata not consolidated.

    Raises:
        StoreError: if something else or another product exists there, or it cannot be written.
    """
    layout.shards(grid)  # refuses a grid that is not aligned
    store = retrying(open_store(url, read_only=False))
    try:
        group = _open_existing(store, url, attributes, damaged_files, redo)
        if group is None:
            create(store, "zarr.json", _root_document(attributes))
            # Opened and compared even so: another run may have been faster with its own root.
            group = _open_existing(store, url, attributes, damaged_files, redo)
        if group is None:
            raise StoreError(f"{url} was removed while it was begun; run the command again")
        if group.attrs["unigeo"]["state"] == "building":  # type: ignore[index,call-overload]
            create_arrays(store, group.path, grid, layout, covariates)
        return group
    except unreachable_errors() as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the store at {url}: {describe_error(error)}") from error


def check_product(url: Any, region: Region, grid: Grid, layout: Layout) -> None:
    """Refuse a store of other cells or arrays, before a model is trained for it.

    Raises:
        StoreError: naming what differs.
    """
    old = _begun_attributes(url)
    if old is None:
        return
    layouts = [layout_attributes(one) for one in (old.field_layout(), layout)]
    same = {
        "region": old.region == region.name,
        "outline": old.region != region.name or old.outline_sha256 in (None, region.outline_sha256),
        "grid": old.grid.grid() == grid,
        "layout": layouts[0] == layouts[1],
    }
    differing = [key for key, is_same in same.items() if not is_same]
    if differing:
        raise StoreError(
            f"{url} holds another product: {_naming(differing)}. {_remedy(differing, old)}"
        )


def check_begun(url: Any, attributes: Mapping[str, Any], *, lacks_shards: bool) -> None:
    """Refuse a store that was begun as another product or by other code, without a change to it.

    Args:
        url: URL of the store.
        attributes: attributes of the root of the field to be written.
        lacks_shards: whether some of its shards are to be written.

    Raises:
        StoreError: naming what differs.
    """
    old = _begun_attributes(url)
    if old is None:
        return
    new = read_attributes(dict(attributes), "the new field")
    differing = _differences(old, new)
    # A store that is not finished may go on with files that were damaged and are mended.
    if differing and not (old.state == "building" and differing == ["observations"]):
        raise _other_product(url, old, new, differing)
    if lacks_shards:
        present = old.model_dump(mode="json")
        check_layout(present, url)
        check_code(present, new.model_dump(mode="json"), url)


def _begun_attributes(url: Any) -> UnigeoAttributes | None:
    """Return a store's attributes; None without them, where `create_field` says what is wrong."""
    try:
        return read_attributes(dict(open_group(url, consolidated=False).attrs), str(url))
    except (StoreError, LayoutError):
        return None


def _naming(differing: Sequence[str]) -> str:
    """Say that keys differ; one of them, `observations`, is a plural."""
    is_one = len(differing) == 1 and not differing[0].endswith("s")
    return f"its {', '.join(differing)} {'differs' if is_one else 'differ'}"


def _remedy(differing: Sequence[str], old: UnigeoAttributes) -> str:
    """Say what to do about a store of another product.

    Args:
        differing: keys that differ.
        old: attributes of the store.
    """
    building = old.state == "building"
    if building and "previous" in (old.model_extra or {}):  # its address follows from the first's
        return "Remove that unfinished release first."
    other = f"--name, other than {old.region!r}, or " if "outline" in differing else ""
    update = "" if building else ", make its next release with --update"
    return f"Name another {other}--out{update}, or remove the store first."


def _open_existing(
    store: Any,
    url: Any,
    attributes: dict[str, Any],
    damaged_files: frozenset[str],
    redo: Redo,
) -> zarr.Group | None:
    """Open the root of a store if it is the same product; None if there is no root."""
    group = _open_root(store)
    if group is None and isinstance(store, LocalStore) and holds_files(store.root):
        group = _open_root(store)  # another run may have begun it between the two requests
        if group is None:
            refuse_other_files(store, url)
    if group is None:
        return None
    try:
        old = read_attributes(dict(group.attrs), str(url))
    except LayoutError as error:
        raise StoreError(f"{error}. Name another --out, or remove it first.") from error
    new = read_attributes(attributes, "the new field")
    building, differing = old.state == "building", _differences(old, new)
    present, wanted = old.model_dump(mode="json"), new.model_dump(mode="json")
    seen = present["observations"], wanted["observations"]
    if building:
        check_layout(present, url)
    if building and differing in ([], ["observations"]):
        check_code(present, wanted, url)
    if building and differing == ["observations"]:
        # The same product once the damaged files are left out: continue it with the new ones.
        rest = (without_files(one, damaged_files) for one in seen)
        if damaged_files and len({json.dumps(one, sort_keys=True) for one in rest}) == 1:
            redo(changed_files(*seen))
            return _write_root(store, _as_begun(group.attrs, attributes))
    told = differing == ["observations"] and deciding(seen[0]) == deciding(seen[1])
    if building and (told or (not differing and _terms(group.attrs) != _terms(attributes))):
        return _write_root(store, _as_begun(group.attrs, attributes))
    if differing:
        raise _other_product(url, old, new, differing)
    return group


def _differences(old: UnigeoAttributes, new: UnigeoAttributes) -> list[str]:
    """Return the keys in which two fields are not the same product."""
    present, wanted = old.model_dump(mode="json"), new.model_dump(mode="json")
    present["layout"] = layout_attributes(old.field_layout())  # layout 1 has no widths
    wanted["layout"] = layout_attributes(new.field_layout())
    differing = [key for key in _PRODUCT_KEYS if present[key] != wanted[key]]
    outlines = {old.outline_sha256, new.outline_sha256} - {None}
    if "region" not in differing and len(outlines) > 1:
        differing.append("outline")
    if _interpolation(present) != _interpolation(wanted):
        differing.append("interpolation")
    return differing


def _other_product(
    url: Any, old: UnigeoAttributes, new: UnigeoAttributes, differing: Sequence[str]
) -> StoreError:
    present, wanted = old.model_dump(mode="json"), new.model_dump(mode="json")
    return StoreError(
        f"{url} holds another product: {_naming(differing)}"
        f"{_describe_difference(present, wanted)}. {_remedy(differing, old)}"
    )


def check_layout(unigeo: Mapping[str, Any], url: Any) -> None:
    """Refuse to write shards into a store of an earlier layout.

    Args:
        unigeo: the root's attribute of this name.
        url: URL of the store.

    Raises:
        StoreError: naming both layouts and what to do.
    """
    if unigeo["layout_version"] != LAYOUT_VERSION:
        raise StoreError(
            f"{url} lacks shards and was begun by an earlier unigeo in layout "
            f"{unigeo['layout_version']}, which this one, of layout {LAYOUT_VERSION}, cannot "
            f"finish; finish it with the unigeo that began it ({unigeo['code_version']}), name "
            "another --out, or remove it first"
        )


def _open_root(store: Any) -> zarr.Group | None:
    try:
        return zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
    except FileNotFoundError:
        return None
    except MALFORMED as error:
        raise StoreError(
            f"the zarr.json of {store} is cut off, or of something else ({error}); name another "
            "--out, or remove it first"
        ) from error


def _terms(attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the attributes that a run may change until the store is published."""
    unigeo = attributes["unigeo"]
    return attributes["license"], attributes["citation"], unigeo.get("providers")


def _as_begun(old: Mapping[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Return new attributes with the code and packages of the run that began the store."""
    kept = {key: old["unigeo"][key] for key in _FIRST_RUN_KEYS if key in old["unigeo"]}
    return {**attributes, "unigeo": attributes["unigeo"] | kept}


def _interpolation(unigeo: dict[str, Any]) -> int:
    """Return the side of the squares of cells of which one coordinate was encoded."""
    detail = unigeo["coordinate_detail"]
    return 1 if detail is None else int(detail["interpolated"])


def is_published(group: zarr.Group) -> bool:
    """Return whether the store is published now, whatever it was when the group was opened."""
    now = zarr.open_group(retrying(group.store), mode="r", zarr_format=3, use_consolidated=False)
    unigeo: Any = now.attrs["unigeo"]
    return bool(unigeo["state"] == "published")


def _root_document(attributes: dict[str, Any]) -> bytes:
    return objects_of(new_group(attributes))["zarr.json"]


def _write_root(store: Any, attributes: dict[str, Any]) -> zarr.Group:
    put(store, "zarr.json", _root_document(attributes))
    return zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)


def _describe_difference(present: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name the model's hashes, the region or the input files, where these differ."""
    if present["model"]["sha256"] != wanted["model"]["sha256"]:
        return (
            f" (model {present['model']['sha256'][:12]} there, "
            f"{wanted['model']['sha256'][:12]} here)"
        )
    if present["region"] != wanted["region"]:
        return f" ({present['region']} there, {wanted['region']} here)"
    files = changed_files(present["observations"], wanted["observations"])
    return f" (changed since: {', '.join(files)})" if files else ""


def sweep(group: zarr.Group) -> None:
    """Remove what killed writes left beside their objects on a local disk: `<key>.<hex>.partial`.

    Only where no other process writes: its unfinished objects look the same.
    """
    store = group.store
    if isinstance(store, LocalStore) and store.root.is_dir():
        for stray in store.root.rglob("*.partial"):
            stray.unlink(missing_ok=True)
