"""Four kinds of TOML files are read alike: errors name the file, the key, and the nearest one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unigeo.client.probing.suites import load_suite
from unigeo.producer.ablation.ablation_table import read_table
from unigeo.producer.observations.folder.description import read_description
from unigeo.producer.sources.set_description import read_set_description
from unigeo.schemas.errors import ModelError, ObservationsError, ProbeError, UnigeoError

FOLDER = """
name = "a"
licence = "b"
[land]
file = "land.geojson"
[aerial]
kind = "raster"
files = ["a.tif"]
bands = [1]
patch_m = 10
patch_px = 8
[street]
kind = "images"
file = "street.csv"
radius_m = 50
patch_px = 8
"""
SET = """
name = "a"
licence = "b"
[where]
bbox = [1, 2, 3, 4]
count = 5
[aerial]
kind = "files"
files = ["a.tif"]
"""
SUITE = """
name = "a"
[areas]
file = "a.geojson"
key = "name"
[[table]]
file = "a.csv"
targets = ["height"]
"""
ABLATION = """
name = "a"
[base]
preset = "tiny"
[[question]]
name = "Depth"
[[question.row]]
name = "6 blocks"
model.coordinate.depth = 6
"""
READERS: dict[str, tuple[Callable[[Path], Any], type[UnigeoError], str]] = {
    "folder": (read_description, ObservationsError, FOLDER),
    "set": (read_set_description, ObservationsError, SET),
    "suite": (load_suite, ProbeError, SUITE),
    "ablation": (read_table, ModelError, ABLATION),
}
EACH = pytest.mark.parametrize("reader", READERS)


def refused(reader: str, text: str, folder: Path) -> str:
    """The message with which a file of this text is refused; it names the file."""
    read, error, _ = READERS[reader]
    path = folder / "file.toml"
    path.write_text(text)
    with pytest.raises(error) as raised:
        read(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


@EACH
def test_the_files_are_read(reader: str, tmp_path: Path) -> None:
    read, _, text = READERS[reader]
    (tmp_path / "file.toml").write_text(text)
    read(tmp_path / "file.toml")


@EACH
def test_a_file_that_is_missing_or_no_toml_is_named(reader: str, tmp_path: Path) -> None:
    read, error, text = READERS[reader]
    with pytest.raises(error, match=r"cannot read the .*gone\.toml: No such file"):
        read(tmp_path / "gone.toml")
    with pytest.raises(error, match=f"cannot read the .*{tmp_path.name}: Is a directory"):
        read(tmp_path)
    assert "it is not TOML" in refused(reader, text + "[broken", tmp_path)
    (tmp_path / "file.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(error, match=r"it is not TOML.*byte 8 is not\. Save it as UTF-8"):
        read(tmp_path / "file.toml")


@EACH
def test_marks_and_line_ends_of_other_editors_change_nothing(reader: str, tmp_path: Path) -> None:
    read, _, text = READERS[reader]
    path = tmp_path / "file.toml"
    path.write_text(text)
    plain = read(path)
    for content in (b"\xef\xbb\xbf" + text.encode(), text.replace("\n", "\r\n").encode()):
        path.write_bytes(content)
        assert read(path) == plain


def test_values_are_told_in_the_words_of_toml(tmp_path: Path) -> None:
    short = refused("set", SET.replace("[1, 2, 3, 4]", "[1, 2, 3]"), tmp_path)
    assert short.endswith("table [where], key 'bbox': there are too few values.")
    double = refused("set", SET.replace("[aerial]", "[[aerial]]"), tmp_path)
    assert "key 'aerial': should be a table, not [" in double
    for value, said in (("[]", "at least one value is needed, not []"), ("1", "be a list, not 1")):
        text = FOLDER.replace("bands = [1]", f"bands = {value}")
        assert f"table [aerial], key 'bands': {said}" in refused("folder", text, tmp_path).replace(
            "should ", ""
        )


@pytest.mark.parametrize(
    ("reader", "key", "where"),
    [
        ("folder", "licence", "the top level"),
        ("folder", "aerial", "the top level"),
        ("folder", "patch_px", "table [aerial]"),
        ("folder", "radius_m", "table [street]"),
        ("set", "licence", "the top level"),
        ("set", "where", "the top level"),
        ("set", "files", "table [aerial]"),
        ("set", "count", "table [where]"),
        ("suite", "areas", "suite "),
        ("suite", "table", "suite "),
        ("suite", "key", "[areas] of suite"),
        ("suite", "targets", "[[table]] number 1 of suite"),
        ("ablation", "question", "file.toml"),
        ("ablation", "preset", "file.toml, [base]"),
        ("ablation", "row", "[[question]] number 1"),
        ("ablation", "model", "(Depth), row 1"),
    ],
)
def test_a_wrong_key_is_answered_with_the_nearest_right_one(
    reader: str, key: str, where: str, tmp_path: Path
) -> None:
    text, wrong = READERS[reader][2], key + "s" if len(key) < 5 else key[:-2] + key[-1]
    for start in ("\n", "[", "[[", ".", ""):
        if f"{start}{key}" in text:
            text = text.replace(f"{start}{key}", f"{start}{wrong}", 1)
            break
    message = refused(reader, text, tmp_path)
    assert f"unknown key {wrong!r} (did you mean {key!r}?); allowed: " in message
    assert where in message.split(" has an unknown key")[0]


@EACH
def test_a_key_that_is_like_none_is_answered_with_all(reader: str, tmp_path: Path) -> None:
    message = refused(reader, "zzzzzzzz = 1\n" + READERS[reader][2], tmp_path)
    assert "unknown key 'zzzzzzzz'; allowed: name, " in message


@pytest.mark.parametrize(
    ("reader", "old", "new", "said"),
    [
        ("folder", 'name = "a"', "", "lacks the key 'name'"),
        ("set", "count = 5", "", "table [where] lacks the key 'count'"),
        ("suite", 'key = "name"', "", "lacks the key 'key'"),
        ("ablation", 'name = "6 blocks"', "", "row 1 lacks the key 'name'"),
        ("folder", "patch_px = 8", "patch_px = '8'", "table [aerial], key 'patch_px'"),
        ("folder", 'kind = "images"', 'kind = "photos"', "[street], key 'kind': one of 'raster'"),
        ("folder", '[street]\nkind = "images"', "[street]", "[street], key 'kind'"),
        ("set", "count = 5", "count = 0", "table [where], key 'count'"),
        ("set", 'kind = "files"', 'kind = "tiles"', "table [aerial], key 'kind'"),
        ("set", "[aerial]", "splits = 3\n[aerial]", "table [where] has an unknown key 'splits'"),
        ("suite", 'key = "name"', "key = 3", "the key 'key' cannot be 3"),
        ("suite", "targets = [", "targets = 'height' #", "the key 'targets' cannot be 'height'"),
        ("ablation", '"tiny"', "true", "the key 'preset' cannot be True"),
        ("ablation", "[base]", "[[base]]", "the key 'base' cannot be"),
    ],
)
def test_a_missing_key_and_a_wrong_value_are_named(
    reader: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    text = READERS[reader][2]
    assert old in text
    assert said in refused(reader, text.replace(old, new, 1), tmp_path)


def test_all_faults_of_a_description_are_reported_at_once(tmp_path: Path) -> None:
    message = refused("set", SET.replace("count", "cont").replace("files =", "fils ="), tmp_path)
    assert "lacks the key 'count'" in message
    assert "did you mean 'count'" in message
    assert "did you mean 'files'" in message
