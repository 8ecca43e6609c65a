"""Reading and writing of objects by name: in a folder, on a web server or in an object store."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unigeo.schemas.errors import ObservationsError, StoreError
from unigeo.schemas.io.atomic_files import write_bytes
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.retrying import with_retries
from unigeo.schemas.io.store_errors import describe_error, unreachable_errors
from unigeo.schemas.io.stores import check_not_forked, open_obstore

_GAP_BYTES = 65_536
"""Ranges nearer to each other than this are requested as one."""
_LOCAL_GAP_BYTES = 4096
"""Ranges nearer to each other than this are read as one from a local disk."""


class ObjectFolder:
    """Objects below one path or address. Writing is atomic: no reader sees a partial object."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._folder: Path | None = None
        if "://" not in url or url.startswith("file://"):
            self._folder = Path(url.removeprefix("file://")).expanduser()
            return
        self._opened = open_obstore(self.url)

    @property
    def _store(self) -> Any:
        """Store of an address."""
        check_not_forked()
        return self._opened

    @property
    def local(self) -> Path | None:
        """Path of the folder; None for an address."""
        return self._folder

    def get(self, name: str) -> bytes | None:
        """Read an object; None if it does not exist.

        Raises:
            StoreError: the store cannot be reached.
        """
        try:
            if self._folder is not None:
                return (self._folder / name).read_bytes()
            import obstore

            return with_retries(lambda: bytes(obstore.get(self._store, name).bytes()))
        except FileNotFoundError:
            return None
        except unreachable_errors() as error:
            raise StoreError(f"cannot read {self.url}/{name}: {describe_error(error)}") from error

    def get_json(self, name: str) -> dict[str, Any] | None:
        """Read an object that holds a JSON table; None if it does not exist.

        Raises:
            ObservationsError: it holds something else.
            StoreError: the store cannot be reached.
        """
        data = self.get(name)
        if data is None:
            return None
        try:
            return dict(load_json(data))
        except (ValueError, TypeError) as error:
            raise ObservationsError(
                f"{self.url}/{name} is damaged: {error}. Copy it again."
            ) from error

    def put(self, name: str, data: bytes) -> None:
        """Write an object, replacing one of the same name.

        Raises:
            StoreError: the object cannot be written.
        """
        try:
            if self._folder is None:
                import obstore

                with_retries(lambda: obstore.put(self._store, name, data))
                return
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
        except unreachable_errors() as error:
            raise StoreError(f"cannot write {self.url}/{name}: {describe_error(error)}") from error

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Read parts of an object, each given by its start and length.

        Raises:
            StoreError: the store cannot be reached, or the object ends before a part does.
        """
        try:
            if self._folder is not None:
                with (self._folder / name).open("rb") as file:
                    parts = _read_spans(file.fileno(), spans)
            else:
                import obstore

                contents = with_retries(
                    lambda: obstore.get_ranges(
                        self._store,
                        name,
                        starts=[start for start, _ in spans],
                        lengths=[size for _, size in spans],
                        coalesce=_GAP_BYTES,
                    )
                )
                parts = [memoryview(part) for part in contents]
        except unreachable_errors() as error:
            raise StoreError(f"cannot read {self.url}/{name}: {describe_error(error)}") from error
        for part, (start, size) in zip(parts, spans, strict=True):
            if len(part) != size:
                raise StoreError(
                    f"{self.url}/{name} ends before byte {start + size}; copy it again."
                )
        return parts

    def names(self, folder: str, ending: str) -> list[str]:
        """List the objects directly in a folder whose names have an ending, sorted.

        Raises:
            StoreError: the store cannot be reached, or cannot list.
        """
        try:
            if self._folder is not None:
                found = (self._folder / folder).glob(f"*{ending}")
                return sorted(f"{folder}/{path.name}" for path in found)
            import obstore

            listed = with_retries(
                lambda: obstore.list_with_delimiter(self._store, f"{folder}/")["objects"]
            )
            return sorted(str(one["path"]) for one in listed if one["path"].endswith(ending))
        except unreachable_errors() as error:
            raise StoreError(f"cannot list {self.url}/{folder}: {describe_error(error)}") from error

    def remove_partial_files(self) -> None:
        """Remove partial files left by a writer that was killed."""
        if self._folder is not None and self._folder.is_dir():
            for part in self._folder.rglob("*.partial"):
                part.unlink(missing_ok=True)


def _read_spans(file: int, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
    """Read parts of an open file, near ones together; a part beyond the end is cut short."""
    parts = [memoryview(b"")] * len(spans)
    order = sorted(range(len(spans)), key=spans.__getitem__)
    first = 0
    while first < len(order):
        start, size = spans[order[first]]
        stop, after = start + size, first + 1
        while after < len(order) and spans[order[after]][0] <= stop + _LOCAL_GAP_BYTES:
            stop = max(stop, sum(spans[order[after]]))
            after += 1
        # `pread` keeps no position in the file, so several threads may read it.
        data = memoryview(os.pread(file, stop - start, start))
        for number in order[first:after]:
            offset, size = spans[number][0] - start, spans[number][1]
            parts[number] = data[offset : offset + size]
        first = after
    return parts
