"""Names of fields, the default field, and the argument of each command that names one."""

import json
import shutil
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.commands import done, point_table, refused, run
from support.installed_fields import install

from unigeo import client
from unigeo.client.errors import DefaultFieldWarning, ProbeError, StoreError
from unigeo.client.naming import default_field, known_fields
from unigeo.schemas.io import installed_fields

ROOT = Path(__file__).parents[1]
HOME = [0.5, 0.5]


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a list of fields and without an installed one; returns the list's path."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("UNIGEO_FIELD", raising=False)
    monkeypatch.setattr(default_field, "_said", set())
    monkeypatch.setattr(
        installed_fields,
        "entry_points",
        lambda **select: [
            point
            for point in entry_points(**select)
            if point.module.startswith("fields_of_")  # not those of this environment
        ],
    )
    (tmp_path / "config/unigeo").mkdir(parents=True)
    return tmp_path / "config/unigeo/fields.toml"


@pytest.fixture
def conus_1(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of an installed stand-in of the default field."""
    install(tmp_path / "site", "conus-1", wide)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return wide


def test_the_default_is_the_argument_then_the_variable_then_conus_1(
    conus_1: Path, fiji: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(DefaultFieldWarning, match="reading conus-1, gulf in cells of 80 km"):
        assert client.open_field().attributes.region == "gulf"
    client.open_field()  # said once: a second warning were an error
    monkeypatch.setenv("UNIGEO_FIELD", str(fiji))
    with pytest.warns(DefaultFieldWarning, match="as UNIGEO_FIELD says, fiji in cells of 20 km"):
        assert client.open_field().attributes.region == "fiji"
    monkeypatch.setenv("UNIGEO_FIELD", "conus1")
    with pytest.raises(StoreError, match="UNIGEO_FIELD is 'conus1', and there is neither a path"):
        client.open_field()
    assert client.open_field(conus_1).attributes.region == "gulf"
    assert client.open_field("conus-1").attributes.region == "gulf"


def test_every_verb_has_the_default(conus_1: Path) -> None:
    table = point_table()
    with pytest.warns(DefaultFieldWarning):
        joined = client.join(table)
    pd.testing.assert_frame_equal(joined, client.join(table, conus_1))
    probed = client.probe(table, "height", modalities="coordinate", folds=3, baselines=False)
    assert probed.targets == ("height",)
    assert client.open_field().url == client.open_field("conus-1").url == str(conus_1)


def test_a_part_is_fetched_and_read_without_the_rest(
    conus_1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    part = client.fetch("conus-1", region=(-18, 2, -10, 9), modalities="fused")
    assert part.url == str(tmp_path / "region.zarr") and part.modalities == ("fused",)
    whole = client.open_field(conus_1)
    pd.testing.assert_frame_equal(
        part.sample([[-14.0, 5.0]]), whole.sample([[-14.0, 5.0]], "fused")
    )
    with pytest.raises(StoreError, match="it is there already"):
        client.fetch("conus-1", region=(-18, 2, -10, 9))


def test_without_the_distribution_the_client_says_how_to_get_it() -> None:
    for call in (lambda: client.open_field(), lambda: client.open_field("conus-1")):
        with pytest.raises(StoreError, match=r'pip install "unigeo\[conus\]"'):
            call()
    assert 'pip install "unigeo[conus]"' in refused("info")


@pytest.mark.parametrize("wrong", [str, Path])
def test_the_old_order_of_probe_gets_one_sentence(gulf: Path, wrong: Any) -> None:
    with pytest.raises(
        ProbeError, match=r"comes last: write client\.probe\(table, 'height', '.*gulf"
    ):
        client.probe(point_table(), wrong(gulf), "height")
    with pytest.raises(ProbeError, match=r"write client\.probe\(table, targets, "):
        client.probe(point_table(), wrong(gulf))


def test_a_path_wins_over_a_name_and_an_unknown_name_gets_the_nearest(
    conus_1: Path, fiji: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StoreError, match=r"field 'conus-2' \(did you mean 'conus-1'\?\); known fields"
    ):
        client.open_field("conus-2")
    shutil.copytree(fiji, "conus-1")
    assert client.open_field("conus-1").attributes.region == "fiji"


def test_names_of_the_users_list_and_of_catalogues(
    no_names: Path, conus_1: Path, fiji: Path, tmp_path: Path
) -> None:
    catalogue = tmp_path / "catalog.json"
    entry = {
        "item": "a.json", "collection": "b.json", "resolution_m": 1000, "modalities": ["aerial"],
        "model_sha256": "0", "root_sha256": "0" * 64,
    }  # fmt: skip
    entries = [
        entry | {"region": "gulf", "release": str(number), "href": f"gulf_{number}.zarr"}
        for number in (1, 2)
    ]
    catalogue.write_text(json.dumps({"unigeo:fields": entries}))
    no_names.write_text(
        f'catalogues = ["nowhere/catalog.json", "{catalogue}"]\n[fields]\npacific = "{fiji}"\n'
    )
    assert client.open_field("pacific").attributes.region == "fiji"
    address_of = known_fields.address_of
    assert address_of("gulf") == address_of("gulf@2") == str(tmp_path / "gulf_2.zarr")
    assert address_of("gulf@1") == str(tmp_path / "gulf_1.zarr")
    with pytest.raises(StoreError, match=r"did you mean 'pacific'.*no catalogue at .*nowhere"):
        client.open_field("pacifc")
    listed = run("fields")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "pacific", "conus-1", "gulf", "gulf@1", "gulf@2",
    ]  # fmt: skip
    assert "Warning: there is no catalogue at" in listed.stderr
    assert json.loads(run("fields", "--json").stdout)["default"] == "conus-1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fields]\nalps = 3\n", "3 is no address"),
        ('[field]\nalps = "a.zarr"\n', "did you mean 'fields'"),
        ('[fields]\n"a/b" = "a.zarr"\n', "'a/b' cannot be the name"),
        ("[fields\n", "not TOML"),
    ],
)
def test_a_wrong_list_is_refused_by_its_path(no_names: Path, text: str, words: str) -> None:
    no_names.write_text(text)
    with pytest.raises(StoreError, match=words) as refusal:
        client.open_field("alps")
    assert str(no_names) in str(refusal.value)


TABLE_COMMANDS = {
    "join": [],
    "sample": [],
    "plan": ["--latency-ms", "1", "--rate-mbs", "100", "--json"],
    "zonal": [],
    "probe": ["--target", "height", "--folds", "3", "--modality", "coordinate", "--quiet"],
}


@pytest.mark.parametrize("verb", TABLE_COMMANDS)
def test_one_argument_is_the_table_and_two_are_field_and_table(
    verb: str, conus_1: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    point_table(150).to_csv(table, index=False)
    options = TABLE_COMMANDS[verb]
    argument = "-5,-5,5,5" if verb == "zonal" else str(table)
    named = done(verb, conus_1, argument, *options)
    assert done(verb, "--field", "conus-1", argument, *options) == named
    alone = run(verb, argument, *options)
    assert alone.exit_code == 0, alone.stderr
    assert alone.stdout == named
    said = "Note: no field is named: reading conus-1, gulf in cells of 80 km" in alone.stderr
    assert said != ("--quiet" in options)
    assert "named twice" in refused(verb, conus_1, argument, "--field", "conus-1", *options)
    assert "name the table beside the field" in refused(verb, conus_1, *options)
    missing = {"sample": "name a table of POINTS", "probe": "name a TABLE"}
    assert missing.get(verb, "Missing argument") in refused(verb, *options)


def test_one_argument_is_the_field_where_an_option_stands_for_the_table(
    conus_1: Path, tmp_path: Path
) -> None:
    named = done("sample", conus_1, "--at", *HOME)
    assert run("sample", "--at", *HOME).stdout == named
    assert done("sample", "--field", "conus-1", "--at", *HOME) == named
    point_table().to_csv(tmp_path / "table.csv", index=False)
    folder = tmp_path / "probe"
    done(
        "probe",
        conus_1,
        tmp_path / "table.csv",
        "--target",
        "height",
        "--folds",
        "3",
        "--modality",
        "coordinate",
        "--save",
        folder,
    )
    loaded = ["--load", folder, "--map", "-5,-5,5,5"]
    done("probe", conus_1, *loaded, tmp_path / "a.tif")
    assert run("probe", *loaded, tmp_path / "b.tif").exit_code == 0
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    (tmp_path / "suite.toml").write_text("")
    suite = ["--suite", tmp_path / "suite.toml", "--data", tmp_path]
    assert "suite" in refused("probe", conus_1, *suite)
    assert "TABLE" in refused("probe", conus_1, tmp_path / "table.csv", *suite)


def test_encode_takes_its_field_as_the_others_do(conus_1: Path) -> None:
    points = "lon,lat\n0,0\n"
    for arguments in ([conus_1, "-"], ["-"], ["--field", "conus-1", "-"]):
        refusal = refused("encode", *arguments, stdin=points)
        assert "has no group 'encoder'" in refusal, refusal


LEADING_COMMANDS: dict[str, list[str]] = {
    "search": ["forest", "--modality", "coordinate", "--quiet"],
    "similar": ["0.5", "-0.5", "--modality", "coordinate"],
    "coverage": ["-5,-5,5,5"],
    "region": ["-5,-5,5,5", "--modality", "sar", "--overwrite", "-o"],
    "geotiff": ["--modality", "sar", "--overwrite", "-o"],
}


@pytest.mark.parametrize("verb", LEADING_COMMANDS)
def test_the_first_argument_is_the_field_if_it_is_an_address(
    verb: str, conus_1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*LEADING_COMMANDS[verb]]
    if arguments[-1] == "-o":
        arguments.append(str(tmp_path / "out.tif"))
    named = done(verb, conus_1, *arguments)
    (tmp_path / "folder").symlink_to(conus_1)
    for address in (tmp_path / "folder", conus_1.as_uri()):
        assert done(verb, address, *arguments) == named
    assert done(verb, "--field", "conus-1", *arguments) == named
    default = run(verb, *arguments)
    assert (default.exit_code, default.stdout) == (0, named), default.stderr
    assert ("Note: no field is named" in default.stderr) == (verb != "search")  # which is --quiet
    if verb == "search":
        assert "Note: no concept has the word 'conu'" in run(verb, "conus-1", "forest").stderr
    else:
        assert "name another with --field" in refused(verb, "conus-1", *arguments)


@pytest.mark.parametrize("verb", ["info", "cite", "verify"])
def test_a_command_on_a_store_takes_a_name(verb: str, conus_1: Path) -> None:
    assert done(verb, "conus-1") == done(verb, conus_1)
    default = run(verb)
    assert (default.exit_code, default.stdout) == (0, done(verb, conus_1))
    assert "Note: no field is named" in default.stderr


def test_the_distribution_of_conus_1_offers_it_by_its_entry_point() -> None:
    settings = tomllib.loads((ROOT / "packages/unigeo-conus/pyproject.toml").read_text())
    offered = settings["project"]["entry-points"][installed_fields.ENTRY_POINTS]
    assert offered == {installed_fields.DEFAULT: "unigeo_conus"}
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ours["optional-dependencies"]["conus"] == ["unigeo-conus>=1,<2"]
    assert settings["project"]["version"].startswith("1.")


def test_finding_a_field_imports_no_package(conus_1: Path) -> None:
    assert installed_fields.installed_folder("conus-1").is_dir()
    assert "fields_of_conus_1" not in sys.modules
