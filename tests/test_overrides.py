"""Settings by key: what is written is read back, and what cannot be is named."""

import doctest
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from unigeo.producer.commands.cli import produce
from unigeo.producer.commands.options import setting_changes
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import only
from unigeo.producer.pipeline import overrides
from unigeo.producer.pipeline.overrides import known_keys, override, split_change, to_text
from unigeo.producer.pipeline.production_run import ProductionRun, choose, describe
from unigeo.producer.pipeline.recipe import recipe
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import LayoutError, ModelError
from unigeo.schemas.geo.regions import region_of_bbox

MODEL = tiny(default_forms({"aerial": (3, 32, 32), "street": (3, 32, 32), "dsm": (1, 32, 32)}))


@dataclass(frozen=True, kw_only=True)
class Part:
    count: int = 1
    sizes: tuple[int, ...] = ()
    kind: Literal["one", "two"] = "one"


@dataclass(frozen=True, kw_only=True)
class Whole:
    part: Part = field(default_factory=Part)
    spare: Part | None = None
    share: float = 0.5
    on: bool = False
    word: str | None = None
    side: int | Literal["auto"] = "auto"
    rates: tuple[tuple[str, float], ...] = ()
    window: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.window[0] >= self.window[1]:
            raise ModelError("window must rise")


numbers = st.floats(allow_nan=False)
names = st.sampled_from(("coordinate", "aerial", "text"))
wholes = st.builds(
    Whole,
    part=st.builds(
        Part,
        count=st.integers(),
        sizes=st.lists(st.integers(), max_size=4).map(tuple),
        kind=st.sampled_from(("one", "two")),
    ),
    share=numbers,
    on=st.booleans(),
    word=st.none() | names,
    side=st.just("auto") | st.integers(),
    rates=st.lists(st.tuples(names, numbers), max_size=3).map(tuple),
    window=st.tuples(st.integers(max_value=0), st.integers(min_value=1)),
)


@given(wholes)
def test_what_is_written_is_read_back(whole: Whole) -> None:
    changes = {key: text for key, text in known_keys(whole).items() if key != "spare"}
    assert override(Whole(), changes) == whole


@given(st.integers(0, 9), st.sampled_from((2, 4, 8)), st.booleans())
def test_the_result_is_that_of_replace(depth: int, heads: int, embedded: bool) -> None:
    changes = {
        "coordinate.depth": to_text(depth),
        "coordinate.heads": to_text(heads),
        "coordinate.scale_embedding": to_text(embedded),
        "text": "none",
    }
    coordinate = replace(MODEL.coordinate, depth=depth, heads=heads, scale_embedding=embedded)
    assert override(MODEL, changes) == MODEL.with_towers(coordinate=coordinate, text=None)


def test_changes_that_only_make_sense_together_are_made_together() -> None:
    """3 heads do not divide 128, nor 4 heads 99; nor is 5 before 1."""
    changed = override(MODEL, {"coordinate.heads": "3", "coordinate.width": "96"})
    assert changed.coordinate is not None and changed.coordinate.width == 96
    assert override(Whole(), {"window": "5,7"}).window == (5, 7)


def test_nothing_changes_without_changes() -> None:
    assert override(MODEL, {}) == MODEL
    assert override(MODEL, known_keys(MODEL)) == MODEL


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("coordinate.dept", "6", ["'coordinate.dept'", "'coordinate.depth'", "registers"]),
        ("coordinat.depth", "6", ["'coordinate.depth'", "coordinate, aerial"]),
        ("dimension.depth", "6", ["'dimension.depth'", "one value", "whole number"]),
        ("coordinate.depth", "6.5", ["coordinate.depth", "a whole number", "'6.5'"]),
        ("coordinate.depth", "none", ["coordinate.depth", "a whole number"]),
        ("coordinate.features", "cube", ["one of plane, sphere", "'cube'"]),
        ("coordinate.sigmas", "1;2", ["numbers with commas between", "'1;2'"]),
        ("coordinate.scale_embedding", "yes", ["true or false", "'yes'"]),
        ("temperature", "nan", ["temperature must be a number", "'nan'"]),
        ("text", "big", ["group of settings", "text.depth", "text=none"]),
        ("coordinate.heads", "3", ["coordinate: ", "heads must divide width", "heads=3"]),
    ],
)
def test_an_error_names_the_key_and_what_is_allowed(key: str, value: str, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        override(MODEL, {key: value})
    for word in words:
        assert word in str(caught.value)


def test_what_is_switched_off_has_no_settings() -> None:
    silent = MODEL.with_towers(text=None)
    with pytest.raises(ModelError, match=r"text is none here, so text\.depth cannot be set"):
        override(silent, {"text.depth": "2"})
    with pytest.raises(ModelError, match="cannot be switched on"):
        override(silent, {"text": "on"})
    with pytest.raises(ModelError, match=r"so text\.depth cannot be set too"):
        override(MODEL, {"text": "none", "text.depth": "2"})
    with pytest.raises(ModelError, match="group of settings"):
        override(Whole(), {"part": "none"})


def test_pairs_and_windows_that_do_not_fit() -> None:
    assert override(Whole(), {"rates": "coordinate:0.5,aerial:1"}).rates == (
        ("coordinate", 0.5),
        ("aerial", 1.0),
    )
    for key, value, words in (
        ("rates", "coordinate=0.5", "a word:a number"),
        ("window", "1,2,3", "a whole number,a whole number"),
        ("window", "3,2", "window must rise"),
        ("side", "wide", "one of auto"),
    ):
        with pytest.raises(ModelError, match=words):
            override(Whole(), {key: value})


def test_changes_on_the_command_line_are_split_at_the_first_equals_sign() -> None:
    assert split_change("a.b=c=d") == ("a.b", "c=d")
    for wrong in ("a.b", "=3"):
        with pytest.raises(ModelError, match="key=value"):
            split_change(wrong)


def test_every_setting_there_is_can_be_written() -> None:
    for settings in (MODEL, TrainingSettings()):
        for key, text in known_keys(settings).items():
            assert override(settings, {key: text}) == settings, key
    assert isinstance(MODEL, ModelSettings)


REGION = region_of_bbox((-106.0, 38.0, -102.0, 41.0), "denver")


def chosen(**options: Any) -> ProductionRun:
    return choose(REGION, World(), resolution_m=20_000, **options)


def test_a_run_says_what_was_changed_and_stores_no_modality_that_is_off() -> None:
    run = chosen(changes={"model.aerial": "none", "training.batch": "64"})
    assert run.model_settings is not None and run.model_settings.towers.get("aerial") is None
    assert run.training.batch == 64 and run.layout.modalities == ("coordinate", "dsm", "fused")
    lines = list(describe(run, World()))
    assert "setting       model.aerial = none" in lines
    assert "setting       training.batch = 64" in lines
    assert not any(line.startswith("setting") for line in describe(chosen(), World()))


@pytest.mark.parametrize("names", ["", " , "])
def test_modalities_that_are_left_empty_are_refused(names: str) -> None:
    with pytest.raises(LayoutError, match=r"was a variable left unset.*coordinate, aerial"):
        chosen(modalities=names)


def test_a_finished_model_cannot_be_changed() -> None:
    with pytest.raises(ModelError, match=r"as it is, so training\.batch cannot be set"):
        chosen(model="somewhere", changes={"training.batch": "64"})


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_every_preset_fits_what_is_observed(preset: str) -> None:
    observed = only(World(), ("coordinate", "aerial", "dsm"))
    made = recipe(preset, observed, 7, {"training.steps": "9"})
    assert made.model.modalities == observed.modalities
    assert (made.model.seed, made.training.seed, made.training.steps) == (7, 7, 9)


def test_prefixes_are_short_for_a_setting() -> None:
    options = {"settings": ("training.steps=5", "training.steps=6"), "prefixes": "64,128"}
    assert setting_changes(options) == {
        "training.steps": "6",
        "training.contrast.prefixes": "64,128",
    }


def test_the_command_shows_changes_and_names_a_wrong_key() -> None:
    box = ["--bbox", "-106", "38", "-102", "41", "--resolution", "20000", "--dry-run"]
    box += ["--observations", "world"]
    shown = CliRunner().invoke(produce, [*box, "--set", "model.coordinate.depth=6"])
    assert shown.exit_code == 0 and "model.coordinate.depth = 6" in shown.stderr
    wrong = CliRunner().invoke(produce, [*box, "--set", "model.coordinate.dept=6"])
    assert isinstance(wrong.exception, ModelError)
    assert "did you mean 'model.coordinate.depth'" in str(wrong.exception)


def test_the_examples_hold() -> None:
    assert doctest.testmod(overrides).failed == 0
