"""A set of edited settings or files takes over what an earlier set holds of it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.catalogues import TABLE, TOKEN, Services, make, write_table
from support.set_inputs import SET, WRITERS, image, raster, stopped, tree, write_all

from unigeo.producer.api import open_observations, train
from unigeo.producer.commands.cli import produce
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.sources.build_set import PreparedSet, observe_set, prepare
from unigeo.producer.sources.set_builder import build
from unigeo.producer.sources.set_contents import contents_of_set
from unigeo.producer.sources.set_description import read_set_description
from unigeo.schemas.errors import ModelError, ObservationsError, UnigeoError

ALL = {"aerial", "dsm", "street", "text"}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every kind of input, a finished set, and one that was stopped half-way."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_all()
        observe_set(prepare(read_set_description(Path("set.toml"))), "done")
        stopped(patch, "half")
    return folder


@pytest.fixture
def files(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(begun, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def edited(table: str, key: str, value: str) -> str:
    """The settings with one key of a table changed or added."""
    lines = SET.splitlines()
    first = lines.index(f"[{table}]") if f"[{table}]" in lines else len(lines)
    ends = [k for k in range(first + 1, len(lines)) if lines[k].startswith("[")]
    rest = lines[first + 1 : min(ends, default=len(lines))]
    kept = [line for line in rest if not line.startswith(f"{key} = ")]
    return "\n".join([*lines[:first], f"[{table}]", f"{key} = {value}", *kept,
                      *lines[min(ends, default=len(lines)) :]])  # fmt: skip


def grown(earlier: str) -> PreparedSet:
    """Build the shards of `edited.toml` after an earlier set, and without it; they are equal."""
    description = read_set_description(Path("edited.toml"))
    prepared, alone = prepare(description, earlier=earlier), prepare(description)
    build(prepared.plan, prepared.sources, ObjectFolder("grown"), earlier=prepared.earlier)
    build(alone.plan, alone.sources, ObjectFolder("unbroken"))
    assert tree("grown") == tree("unbroken")
    return prepared


def contents(out: str) -> dict[str, str] | None:
    """The digests of what a set holds, from its shards."""
    parts = [path.read_bytes() for path in sorted(Path(out, "shards").glob("*.parquet"))]
    return contents_of_set(parts, sorted(ALL))


EDITS: list[tuple[str, str, str, set[str]]] = [
    ("aerial", "credit", '"Somebody"', ALL),
    ("aerial", "years", "[2019, 2020]", ALL),
    ("where", "count", "40", ALL),
    ("dsm", "datum", '"NAVD88"', ALL - {"dsm"}),  # of a terrain model, what was used is not known
    ("aerial", "resolution_m", "2", ALL - {"aerial"}),
    ("kept", "quality", "70", ALL - {"aerial", "street"}),
    ("text", "names", '"drop"', ALL - {"text"}),
]
SLOW = [
    ("street", "licence", '"CC-BY-4.0"', ALL),
    ("aerial", "acquired", '"2021"', ALL),
    ("splits", "temporal_years", "[2020]", ALL),
    ("kept", "shard_places", "5", ALL),
]


@pytest.mark.parametrize(
    ("table", "key", "value", "kept"),
    [*EDITS, *(pytest.param(*edit, marks=pytest.mark.slow) for edit in SLOW)],
)
def test_an_edited_key_is_named_and_what_it_leaves_alone_is_taken_over(
    table: str, key: str, value: str, kept: set[str], files: Path
) -> None:
    Path("edited.toml").write_text(edited(table, key, value))
    prepared = grown("done")
    assert prepared.earlier is not None
    (change,) = prepared.earlier.changes
    assert change.startswith(f"{table}.{key} was ") and " and is " in change
    taken = prepared.earlier.taken
    assert {name for name in ALL if taken[name]} == kept
    assert all(taken[name] in (24, 23) for name in kept)
    told = ("credit", "licence", "years", "acquired", "datum")
    # No text of these files holds a name, and their shards are small.
    same = key in (*told, "names", "shard_places")
    assert (contents("grown") == contents("done")) == same


def test_a_model_of_a_set_stays_where_only_a_credit_was_corrected(files: Path) -> None:
    """The command names what differs, takes all over, and the model's card says the new one; a set
    with other images is another.
    """
    changes = {
        "training.locations": 24, "training.batch": 4, "training.steps": 1, "training.warmup": 0,
        "training.gallery": 4, "training.block_km": 0.2, "training.holdout": 0.3,
        "model.coordinate.depth": 0, "model.coordinate.width": 32, "model.text": "none",
        "model.street": "none", "model.dsm": "none",
    }  # fmt: skip
    text = edited("aerial", "credit", '"Somebody"').replace("CC0-1.0", "CC-BY-4.0")
    Path("edited.toml").write_text(text)
    line = ["observe", "edited.toml", "--out", "done"]
    refused = CliRunner().invoke(produce, line)
    assert "with --from done" in str(refused.exception)
    built = CliRunner().invoke(produce, [*line[:-1], "corrected", "--from", "done"])
    assert built.exit_code == 0, built.output
    assert 'after done: aerial.credit was "" and is "Somebody"' in built.stderr
    assert "aerial: 24 observed, 24 of them taken over" in built.stderr
    train(open_observations("done"), "model", changes=changes)
    before = tree("model")
    train(open_observations("corrected"), "model", changes=changes)
    after = tree("model")
    assert {name for name in after if after[name] != before[name]} == {"card.md", "metrics.json"}
    assert b"CC-BY-4.0" in after["card.md"] and b"Somebody" in after["metrics.json"]
    about = json.loads(Path("corrected/set.json").read_text())
    about["contents_sha256"]["aerial"] = "0" * 64
    Path("corrected/set.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"observations\.contents_sha256\.aerial was"):
        train(open_observations("corrected"), "model", changes=changes)


def test_a_source_that_is_added_is_all_that_is_observed(files: Path) -> None:
    """And one of which some shards are not built yet gives those that are."""
    Path("edited.toml").write_text(SET.partition("[text]")[0])
    prepared = grown("half")
    assert prepared.earlier is not None
    taken = prepared.earlier.taken
    assert 0 < taken["aerial"] == taken["dsm"] == taken["street"] < 24
    prepared = prepare(read_set_description(Path("set.toml")), earlier="grown")
    observe_set(prepared, "whole")
    assert prepared.earlier is not None and prepared.earlier.taken["text"] == 0
    assert prepared.earlier.taken["street"] == 24 and tree("whole") == tree("done")


def test_a_file_that_is_added_or_replaced_is_named_and_the_others_stay(files: Path) -> None:
    raster("aerial_20210101.tif", 5)
    image("street/a.jpg", 3)
    Path("edited.toml").write_text(SET)
    prepared = grown("done")
    assert prepared.earlier is not None
    assert list(prepared.earlier.changes) == [
        "[aerial] aerial_20210101.tif is new",
        ANY,
    ]
    assert prepared.earlier.taken == {"aerial": 0, "dsm": 24, "street": 0, "text": 24}


ANY_EDIT = [
    *[("file", name, "") for name in WRITERS],
    *[edit[:3] for edit in (*EDITS, *SLOW)],
    ("where", "cell_level", "19"), ("where", "weight_power", "0.5"), ("where", "per_cell", "2"),
    ("kept", "shard_level", "13"),
    ("aerial", "min_valid", "0.9"), ("aerial", "bands", "[3, 2, 1]"), ("aerial", "note", '"n"'),
    ("aerial", "prefer", '"oldest"'), ("dsm", "ground", '"none"'), ("dsm", "units", '"ft"'),
    ("dsm", "lowest_m", "-100"), ("street", "radius_m", "4000"), ("street", "patch_px", "8"),
    ("text", "radius_m", "1500"), ("text", "tokens", "12"), ("text", "licence", '"ODbL-1.0"'),
]  # fmt: skip


@pytest.mark.slow
@given(edit=st.sampled_from(ANY_EDIT), out=st.sampled_from(["half", "done"]))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_edited_between_kill_and_resume_is_named_or_leads_to_the_edited_set(
    edit: tuple[str, str, str], out: str, files: Path, begun: Path
) -> None:
    table, name, value = edit
    for made in ("grown", "unbroken"):
        shutil.rmtree(made, ignore_errors=True)
    Path("edited.toml").write_text(SET if table == "file" else edited(table, name, value))
    before = tree(out)
    try:
        if table == "file":
            WRITERS[name](name, 1)
        description = read_set_description(Path("edited.toml"))
        with pytest.raises(UnigeoError) as refused:
            observe_set(prepare(description), out)
        named = name if table == "file" else f"{table}.{name} was"
        moved = ("candidates.csv", "region.geojson", "weights.tif")
        assert named in str(refused.value) or name in moved
        assert tree(out) == before
        grown(out)
    finally:
        if table == "file":
            shutil.copy(begun / name, name)


def test_an_earlier_set_is_checked(files: Path) -> None:
    Path("edited.toml").write_text(edited("aerial", "credit", '"Somebody"'))
    description = read_set_description(Path("edited.toml"))
    with pytest.raises(ObservationsError, match="name another --out"):
        observe_set(prepare(description, earlier="done"), "./done")
    with pytest.raises(ObservationsError, match="--from nowhere: there is no set"):
        prepare(description, earlier="nowhere")
    for name, content in (("plan.json", b"{"), ("plan.json", b"[1]"), ("set.json", b"x"),
                          ("shards/000001.parquet", b"words")):  # fmt: skip
        whole = Path("done", name).read_bytes()
        Path("done", name).write_bytes(content)
        with pytest.raises(ObservationsError, match=f"done/{name} is damaged"):
            prepare(description, earlier="done")
        Path("done", name).write_bytes(whole)
    archive = Path("done/shards/000000.tar")
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(ObservationsError, match=r"000000\.tar is damaged"):
        observe_set(prepare(description, earlier="done"), "grown")
    assert not Path("grown/set.json").exists()


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    with pytest.MonkeyPatch.context() as patch, Services(folder) as services:
        patch.setenv("MAPILLARY_TOKEN", TOKEN)
        make(services)
        yield services


@pytest.mark.slow
def test_of_catalogues_only_what_is_chosen_anew_is_fetched(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year is added, and a credit corrected."""
    monkeypatch.chdir(tmp_path)
    old = TABLE.replace("count = 200", "count = 12").replace(
        'collections = "naip"', 'collections = "naip"\nyears = [2019]'
    )
    observe_set(prepare(read_set_description(write_table(services, tmp_path, old))), "done")
    new = old.replace("years = [2019]", "years = [2019, 2022]")
    new = new.replace('datum = "NAVD88"', 'datum = "NAVD88"\ncredit = "USGS"')
    description = read_set_description(write_table(services, tmp_path, new))
    shutil.copytree("done", services.folder / "done")
    services.counts.clear()
    prepared = prepare(description, earlier=f"{services.url}/done")
    alone = prepare(description)
    build(prepared.plan, prepared.sources, ObjectFolder("grown"), earlier=prepared.earlier)
    fetched = services.counts["pixels"]
    services.counts.clear()
    build(alone.plan, alone.sources, ObjectFolder("unbroken"))
    assert tree("grown") == tree("unbroken")
    assert prepared.earlier is not None
    taken = prepared.earlier.taken
    assert taken["aerial"] == 0 and min(taken[name] for name in ("dsm", "text", "street")) > 5
    assert fetched < services.counts["pixels"]
