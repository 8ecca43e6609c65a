"""Which files a set is made of, told by their content, and which of them are others by now.

A set is begun with what its files are. A later run of the same settings goes on only with the same
files: one that is only touched, or copied to its place again, is the same. Of an address the
server's word counts (ETag, or else the time of its last change), and where it gives none its size
and first bytes.
"""

import glob
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unigeo.producer.observations.file_contents import content_identity
from unigeo.producer.sources.set_description import SetDescription
from unigeo.producer.sources.web_requests import GoneError, WebClient

THREADS = 4
"""Files hashed at once."""
_BESIDE = (".ovr", ".msk")
"""What GDAL reads with a GeoTIFF: its overviews and its mask."""
InputFile = dict[str, Any]
"""`table` that names it, `file`, and its identity; or why there is none: `missing`."""


def identify_inputs(table: SetDescription) -> list[InputFile]:
    """Look at every file that the settings name, in the order of their names.

    Raises:
        StoreError: an address cannot be reached.
    """
    named = sorted(set(_named(table)))
    web = WebClient()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="inputs") as pool:
        looks = pool.map(lambda one: _look(web, one[1]), named)
        return [{"table": where, "file": name} | look
                for (where, name), look in zip(named, looks, strict=True)]  # fmt: skip


def _named(table: SetDescription) -> Iterator[tuple[str, str]]:
    """Tables, and the files that they name, patterns filled in."""
    for where, name in (
        ("where", table.where.region),
        ("where", table.where.weights),
        ("where", table.where.candidates),
        ("splits", table.splits.region),
        ("areas", table.areas),
    ):
        if name is not None and Path(name).suffix:  # a region may have a name of its own
            yield where, name
    for where in ("aerial", "dsm"):
        source = getattr(table, where)
        if source is None or source.kind != "files":
            continue
        patterns = source.files + (source.terrain_files if where == "dsm" else ())
        for name in source.model_copy(update={"files": patterns}).paths:
            yield where, name
            yield from ((where, name + end) for end in _BESIDE if Path(name + end).is_file())
    if table.street is not None and table.street.kind == "folder":
        for name in glob.glob(table.street.files, recursive=True):  # noqa: PTH207
            yield "street", name
        if table.street.table:
            yield "street", table.street.table
    if table.text is not None:
        words = table.text
        for name in (*(words.files if words.kind == "files" else ()), words.landcover):
            if name is not None:
                yield "text", name
        for folder in (words.tokenizer, words.caption):
            if folder is not None:
                files = (path for path in Path(folder).rglob("*") if path.is_file())
                yield from (("text", str(path)) for path in files)


def _look(web: WebClient, name: str) -> dict[str, Any]:
    if "://" in name:
        try:
            return web.object_identity(name)
        except GoneError as gone:
            return {"missing": str(gone)}
    try:
        return content_identity(Path(name))
    except OSError as error:
        return {"missing": str(error.strerror)}


def describe_changes(before: Sequence[InputFile], after: Sequence[InputFile]) -> list[str]:
    """Name what differs between two looks, a clause each: replaced, added, gone."""
    old, new = ({(one["table"], one["file"]): one for one in looks} for looks in (before, after))
    told = []
    for key in sorted(old | new):
        words = f"[{key[0]}] {key[1]}"
        if key not in old:
            told.append(f"{words} is new")
        elif key not in new or "missing" in new[key]:
            told.append(f"{words} is gone")
        elif old[key] != new[key]:
            sizes = [one.get("bytes") for one in (old[key], new[key])]
            how = (
                f"{sizes[0]:,} bytes then, {sizes[1]:,} now"
                if None not in sizes and sizes[0] != sizes[1]
                else "of the same size"
            )
            told.append(f"{words} was replaced ({how})")
    return told


def join_clauses(told: Sequence[str], most: int = 5) -> str:
    """The first few clauses, and how many more there are."""
    more = f"; and {len(told) - most:,} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more
