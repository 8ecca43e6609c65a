"""Identity of the input files of a set, and the comparison with what they were before.

The plan of a set records the identity of its files. A later run with the same settings resumes the
build only with the same files; a file that was touched or copied again is the same. An object at an
address is identified by its ETag, or the time of its last change, or its size and first bytes.
"""

import glob
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unigeo.producer.observations.file_contents import content_identity
from unigeo.producer.sources.set_description import SetDescription, expand
from unigeo.producer.sources.web_requests import GoneError, WebClient

THREADS = 4
"""Number of files hashed concurrently."""
_SIDECARS = (".ovr", ".msk")
"""Endings of the files that GDAL reads with a GeoTIFF: its overviews and its mask."""
_PICTURES = (".png", ".jpg", ".jpeg", ".jp2", ".j2k")
_GEOREFERENCES = (".pgw", ".jgw", ".j2w", ".wld", ".prj")
"""Endings of the files that place a picture on the ground."""
InputFile = dict[str, Any]
"""Record of an input file: `table` that names it, `file`, and its identity or `missing`."""


def identify_inputs(description: SetDescription) -> list[InputFile]:
    """Identify every file that the settings name, sorted by table and name.

    Raises:
        StoreError: an address cannot be reached.
    """
    named = sorted(set(_named_files(description)))
    web, folder = WebClient(), description.folder
    with ThreadPoolExecutor(THREADS, thread_name_prefix="inputs") as pool:
        identities = pool.map(lambda one: _identify(web, one[1], folder), named)
        return [{"table": table, "file": name} | identity
                for (table, name), identity in zip(named, identities, strict=True)]  # fmt: skip


def _named_files(description: SetDescription) -> Iterator[tuple[str, str]]:
    """Iterate over the tables and the files that they name, with patterns expanded.

    Names are as the settings have them, so that they do not depend on the working directory.
    """
    folder = description.folder
    for table, name in (
        ("where", description.where.region),
        ("where", description.where.weights),
        ("where", description.where.candidates),
        ("splits", description.splits.region),
        ("areas", description.areas),
    ):
        if name is not None and Path(name).suffix:  # without an ending it is a named region
            yield table, name
    for table in ("aerial", "dsm"):
        rasters = getattr(description, table)
        if rasters is None or rasters.kind != "files":
            continue
        patterns = rasters.files + (rasters.terrain_files if table == "dsm" else ())
        for name in expand(patterns, folder):
            yield table, name
            beside = [name + end for end in _SIDECARS]
            if Path(name).suffix.lower() in _PICTURES:
                beside += [str(Path(name).with_suffix(end)) for end in _GEOREFERENCES]
                beside.append(name + ".aux.xml")
            yield from ((table, other) for other in beside if (folder / other).is_file())
    street, text = description.street, description.text
    if street is not None and street.kind == "folder":
        for name in glob.glob(street.files, root_dir=folder, recursive=True):  # noqa: PTH207
            yield "street", name
        if street.table:
            yield "street", street.table
    if text is not None:
        for name in (*(text.files if text.kind == "files" else ()), text.landcover):
            if name is not None:
                yield "text", name
        for name in (text.tokenizer, text.caption):
            if name is not None:
                files = (path for path in (folder / name).rglob("*") if path.is_file())
                yield from (("text", str(Path(name, path.relative_to(folder / name))))
                            for path in files)  # fmt: skip


def _identify(web: WebClient, name: str, folder: Path) -> dict[str, Any]:
    if "://" in name:
        try:
            return web.object_identity(name)
        except GoneError as gone:
            return {"missing": str(gone)}
    try:
        return content_identity(folder / name)
    except OSError as error:
        return {"missing": str(error.strerror)}


def describe_changes(before: Sequence[InputFile], after: Sequence[InputFile]) -> list[str]:
    """Describe each difference between two records of the inputs by a clause."""
    old, new = ({(one["table"], one["file"]): one for one in files} for files in (before, after))
    clauses = []
    for key in sorted(old | new):
        file = f"[{key[0]}] {key[1]}"
        if key not in old:
            clauses.append(f"{file} is new")
        elif key not in new or "missing" in new[key]:
            clauses.append(f"{file} is gone")
        elif old[key] != new[key]:
            sizes = [one.get("bytes") for one in (old[key], new[key])]
            size = (
                f"{sizes[0]:,} bytes then, {sizes[1]:,} now"
                if None not in sizes and sizes[0] != sizes[1]
                else "of the same size"
            )
            clauses.append(f"{file} was replaced ({size})")
    return clauses
