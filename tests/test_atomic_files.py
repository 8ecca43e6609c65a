"""A file or folder is whole or absent, whatever happens to its writer."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from unigeo.schemas.io import atomic_files
from unigeo.schemas.io.atomic_files import (
    file_beside,
    folder_beside,
    partial_path,
    write_bytes,
    write_text,
)

Beside = Callable[..., AbstractContextManager[Path]]


def fill(part: Path, text: str) -> None:
    """Write a file, or a file in a folder of that path."""
    (part / "values" if part.is_dir() else part).write_text(text)


def text_of(path: Path) -> str | None:
    """What `fill` wrote; None if there is nothing."""
    if not path.exists():
        return None
    return (path / "values" if path.is_dir() else path).read_text()


def write(beside: Beside, path: Path, text: str) -> None:
    kinds = {"overwrite": True} if beside is folder_beside else {}
    with beside(path, unique=True, **kinds) as part:
        fill(part, text)


KINDS = pytest.mark.parametrize("beside", [file_beside, folder_beside])


@KINDS
@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_writer_that_raises_leaves_what_was_there(
    tmp_path: Path, beside: Beside, unique: bool, before: str | None
) -> None:
    path = tmp_path / "out"
    if before is not None:
        write(beside, path, before)
    with pytest.raises(KeyboardInterrupt), beside(path, unique=unique) as part:
        fill(part, "half")
        raise KeyboardInterrupt
    assert text_of(path) == before
    assert list(tmp_path.iterdir()) == [path] * (before is not None)


@KINDS
def test_what_is_written_replaces_what_was_there_and_nothing_is_left(
    tmp_path: Path, beside: Beside
) -> None:
    path = tmp_path / "out"
    for text in ("old", "new"):
        write(beside, path, text)
        assert text_of(path) == text
    assert list(tmp_path.iterdir()) == [path]


@KINDS
def test_a_killed_process_leaves_the_old_one_and_the_next_clears_up(
    tmp_path: Path, beside: Beside
) -> None:
    path = tmp_path / "out"
    write(beside, path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path;"
        f"from unigeo.schemas.io.atomic_files import {beside.__name__} as beside\n"
        "with beside(Path(sys.argv[1])) as part:\n"
        "    (part / 'values' if part.is_dir() else part).write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert process.returncode == -signal.SIGKILL
    assert text_of(path) == "old"
    assert text_of(partial_path(path)) == "half"
    with beside(path, **({"overwrite": True} if beside is folder_beside else {})) as part:
        assert part == partial_path(path)
        fill(part, "new")
    assert text_of(path) == "new"
    assert list(tmp_path.iterdir()) == [path]


@KINDS
def test_of_concurrent_writers_one_is_whole(tmp_path: Path, beside: Beside) -> None:
    path, size, start = tmp_path / "out", 20_000, threading.Barrier(4)
    failures: list[BaseException] = []

    def repeat(letter: str) -> None:
        start.wait()
        try:
            for _ in range(4):
                write(beside, path, letter * size)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    text = text_of(path)
    assert text is not None
    assert text == text[0] * size
    assert list(tmp_path.iterdir()) == [path]


def test_of_processes_that_create_a_file_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise PermissionError("no hard links")

    for name, hard_links in (("linked", True), ("renamed", False)):
        if not hard_links:
            monkeypatch.setattr(atomic_files.os, "link", unsupported)
        path = tmp_path / name
        with file_beside(path, unique=True, overwrite=False) as part:
            part.write_text("first")
        with (
            pytest.raises(FileExistsError),
            file_beside(path, unique=True, overwrite=False) as part,
        ):
            part.write_text("second")
        assert path.read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linked", "renamed"]


def test_a_folder_that_must_not_be_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(folder_beside, path, "old")
    with pytest.raises(OSError, match="out"), folder_beside(path) as part:
        fill(part, "new")
    assert text_of(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path: Path) -> None:
    kept, path = tmp_path / "kept", tmp_path / "link"
    write(folder_beside, kept, "kept")
    path.symlink_to(kept)
    write(folder_beside, path, "new")
    assert not path.is_symlink()
    assert (text_of(kept), text_of(path)) == ("kept", "new")
    assert sorted(tmp_path.iterdir()) == [kept, path]


def test_a_link_to_a_file_stays_and_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file, link = tmp_path / "folder/file.txt", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink() and file.read_text() == "new"
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "folder", file, link]


def test_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_text(path, "Zürich\n")
    assert path.read_bytes() == "Zürich\n".encode()
    write_bytes(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    with pytest.raises(OSError, match="none"):
        write_text(tmp_path / "none" / "out.txt", "")


def test_the_disk_keeps_the_content_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen, sync = tmp_path / "out", [], atomic_files._sync_file

    def recorded(part: Path) -> None:
        seen.append((part.read_text(), path.exists()))
        sync(part)

    monkeypatch.setattr(atomic_files, "_sync_file", recorded)
    write_text(path, "content")
    assert seen == [("content", False)]
