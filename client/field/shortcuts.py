"""What a field is asked in one line, with its address named or left out."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.schemas.errors import ProbeError

if TYPE_CHECKING:
    from unigeo.client.probing.probe import Probe


def sample(points: Any, url: Any = None, **options: Any) -> Any:
    """Read the vectors at points; `url` as in `open_field`, options as in `Field.sample`."""
    return open_field(url).sample(points, **options)


def join(table: Any, url: Any = None, **options: Any) -> Any:
    """Join a table to a field; `url` as in `open_field`, options as in `Field.join`."""
    return open_field(url).join(table, **options)


def fetch(
    url: Any = None,
    *,
    region: Any,
    out: str | os.PathLike[str] | None = None,
    modalities: str | Iterable[str] | None = None,
    crs: Any = None,
    mask: bool = False,
    progress: bool = False,
) -> Field:
    """Copy the part of a field round a region to this machine, and open it there.

    The part is a field of its own, widened to whole shards, and is read without the network.

    Args:
        url: as in `open_field`.
        region: a name, a box, polygons or a file of them, as in `Field.region`.
        out: a new folder, `.zarr`; by default one in the working directory, named for the region.
        modalities: the modalities to copy; all by default.
        crs: CRS of the region's coordinates; degrees by default.
        mask: leave out cells whose centre lies outside the region.
        progress: show a bar on stderr.

    Raises:
        StoreError: if the field cannot be read, or the folder exists or cannot be written.
        RegionError: if the region cannot be read, or lies off the field.
    """
    from unigeo.client.areas.subset import cut_field

    if out is None:
        text = region if isinstance(region, str) else "region"
        out = f"{re.sub(r'[^a-z0-9]+', '_', Path(text).stem.lower()).strip('_') or 'region'}.zarr"
    field = open_field(url)
    options: Any = {"crs": crs, "mask": mask, "progress": progress}
    return open_field(cut_field(field, Path(out), region, modalities, **options))


def probe(table: Any, targets: Any, url: Any = None, **options: Any) -> "Probe":
    """Probe a field with a table; `url` as in `open_field`, options as in `Field.probe`.

    Raises:
        ProbeError: if the field is named before the targets, as earlier versions had it.
    """
    if _is_address(targets, table):
        named = "targets" if url is None else repr(url)
        raise ProbeError(
            f"the field comes last: write client.probe(table, {named}, {str(targets)!r})"
        )
    return open_field(url).probe(table, targets, **options)


def _is_address(targets: Any, table: Any) -> bool:
    """Return whether what stands in the place of the targets is the address of a field."""
    if isinstance(targets, os.PathLike) or type(targets).__module__.startswith("zarr."):
        return True
    if not isinstance(targets, str) or targets in getattr(table, "columns", ()):
        return False
    return "://" in targets or targets.endswith(".zarr") or (Path(targets) / "zarr.json").is_file()
