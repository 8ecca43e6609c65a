"""The model folder, its towers and what they refuse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings, from_json, to_json
from unigeo.producer.encoders.presets import base, small, tiny
from unigeo.producer.encoders.saved_models import load_model, model_hash, read_settings, save_model
from unigeo.producer.encoders.surface import SurfaceEncoder, low_ground
from unigeo.producer.encoders.text import tokenize, train_tokenizer
from unigeo.producer.encoders.tower_settings import SurfaceSettings, TextSettings
from unigeo.producer.observations.forms import default_forms
from unigeo.schemas.errors import ModelError

SHAPES = {"aerial": (3, 16, 16), "street": (3, 16, 24), "dsm": (1, 16, 16)}
SENTENCES = ["Red soil. few trees.", "Dense forest. By the sea.", "City centre, brick walls."] * 20


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Unit vectors in float32 that may have been computed by other kernels."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def model() -> UniGeoCLIP:
    return UniGeoCLIP(tiny(default_forms(SHAPES), seed=3)).eval()


@pytest.fixture(scope="module")
def tokenizer(model: UniGeoCLIP) -> Tokenizer:
    return train_tokenizer(SENTENCES, model.settings.text)


@pytest.fixture(scope="module")
def inputs(model: UniGeoCLIP, tokenizer: Tokenizer) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {
        "coordinate": torch.from_numpy(rng.uniform(-60, 60, (5, 2))),
        "aerial": torch.from_numpy(rng.integers(0, 256, (5, 3, 16, 16), np.uint8)),
        "street": torch.from_numpy(rng.integers(0, 256, (5, 3, 16, 24), np.uint8)),
        "dsm": torch.from_numpy(rng.normal(200, 50, (5, 1, 16, 16)).astype(np.float32)),
        "text": tokenize(tokenizer, [*SENTENCES[:3], None, "sea"]),
    }


def test_every_modality_gives_unit_vectors_of_one_space(
    model: UniGeoCLIP, inputs: dict[str, torch.Tensor]
) -> None:
    with torch.inference_mode():
        for vectors in model(inputs).values():
            assert vectors.shape == (5, model.settings.dimension)
            assert vectors.norm(dim=1).numpy() == pytest.approx(np.ones(5), abs=1e-5)


def test_no_vector_depends_on_its_batch(model: UniGeoCLIP, inputs: dict[str, torch.Tensor]) -> None:
    with torch.inference_mode():
        for modality, values in inputs.items():
            together, alone = model.encode(modality, values), model.encode(modality, values[2:3])
            assert (together[2:3] - alone).abs().max() < 1e-6


def test_the_rotation_keeps_cosines(model: UniGeoCLIP) -> None:
    identity = model.rotation @ model.rotation.T
    assert torch.allclose(identity, torch.eye(len(identity)), atol=1e-5)


def test_a_saved_model_is_read_back_the_same(
    model: UniGeoCLIP, tokenizer: Tokenizer, inputs: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_model(model, tokenizer, tmp_path / "m", {"card.md": "# Card\n"})
    again, text_tokenizer = load_model(tmp_path / "m")
    assert again.settings == model.settings and len(model_hash(tmp_path / "m")) == 64
    assert text_tokenizer is not None and torch.equal(
        tokenize(text_tokenizer, SENTENCES), tokenize(tokenizer, SENTENCES)
    )
    with torch.inference_mode():
        for modality, values in inputs.items():
            same(again.encode(modality, values), model.encode(modality, values))


def test_settings_are_read_without_weights(
    model: UniGeoCLIP, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(model, tokenizer, tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    assert read_settings(tmp_path / "m") == model.settings
    (tmp_path / "m/settings.json").write_text("{}")
    with pytest.raises(ModelError, match=r"settings\.json"):
        read_settings(tmp_path / "m")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "settings.json"])
@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_damaged_model_is_named(
    model: UniGeoCLIP, tokenizer: Tokenizer, tmp_path: Path, name: str, harm: str
) -> None:
    save_model(model, tokenizer, tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-7]) if harm == "cut" else path.unlink()
    with pytest.raises(ModelError, match=name):
        load_model(tmp_path / "m")


def test_a_model_of_a_later_format_is_refused(
    model: UniGeoCLIP, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(model, tokenizer, tmp_path / "m")
    path = tmp_path / "m" / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        load_model(tmp_path / "m")


def test_a_folder_of_something_else_is_left_alone(model: UniGeoCLIP, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="not a model"):
        save_model(model, None, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_patch_tokens_keep_their_positions(
    model: UniGeoCLIP, inputs: dict[str, torch.Tensor]
) -> None:
    """A change of one patch shows most in that patch's token; pooling gives the vector."""
    for modality in ("aerial", "street", "dsm"):
        values = inputs[modality]
        changed = values.clone()
        changed[:, :, 8:, 8:16] = changed[:, :, 8:, 8:16].flip(-1)
        with torch.inference_mode():
            tokens = model.patch_tokens(modality, values)
            moved = (model.patch_tokens(modality, changed) - tokens).norm(dim=-1)
        assert tokens.shape == (5, 2, values.shape[-1] // 8, 128)
        assert (moved.flatten(1).argmax(1) == tokens.shape[2] + 1).all()
    with pytest.raises(ModelError, match="text has no patches"):
        model.patch_tokens("text", inputs["text"])


def test_surfaces_are_read_from_the_class_token_of_the_last_layer(
    model: UniGeoCLIP, inputs: dict[str, torch.Tensor]
) -> None:
    encoder = model.encoders["dsm"]
    with torch.inference_mode():
        features = encoder.tower.forward_features(encoder.channels(inputs["dsm"]))
        assert features.shape[1] == 1 + encoder.settings.registers + 4
        same(encoder.projection(features[:, 0]), encoder(inputs["dsm"]))


def test_checkpointed_activations_give_the_same_gradients(inputs: dict[str, torch.Tensor]) -> None:
    gradients = []
    for on in (False, True):
        model = UniGeoCLIP(tiny(default_forms(SHAPES), seed=3)).train()
        if on:
            model.checkpoint_activations()
        sum(vectors[:, 0].sum() for vectors in model(inputs).values()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys() and len(plain) > 100
    for name, gradient in plain.items():
        assert torch.allclose(gradient, checkpointed[name], atol=1e-6), name


def test_checkpointing_forgets_what_the_blocks_made(inputs: dict[str, torch.Tensor]) -> None:
    """Fewer tensors are kept for the backward pass, in every tower; switched off, as many again."""
    settings = tiny(default_forms(SHAPES), seed=3).with_towers(street=None)
    deep = {name: replace(tower, depth=4) for name, tower in settings.towers.items()}
    model = UniGeoCLIP(settings.with_towers(**deep)).train()
    kept = {}
    for on in (False, True, False):
        model.checkpoint_activations(on)
        for modality in model.modalities:
            saved = []
            with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda _: None):
                model.encode(modality, inputs[modality])
            kept.setdefault(modality, []).append(len(saved))
    for before, during, after in kept.values():
        assert during < before / 2 and after == before


def tied(**changes: Any) -> ModelSettings:
    settings = tiny(default_forms(SHAPES | {"street": (3, 16, 16)}), seed=3)
    return replace(settings.with_towers(**changes), tied=True)


def test_tied_towers_are_one(inputs: dict[str, torch.Tensor], tmp_path: Path) -> None:
    model = UniGeoCLIP(tied(text=None)).eval()
    apart = UniGeoCLIP(replace(model.settings, tied=False))
    one, two = (sum(p.numel() for p in m.parameters()) for m in (model, apart))
    assert two - one == sum(p.numel() for p in model.encoders["aerial"].parameters())
    assert model.modalities == apart.modalities
    save_model(model, None, tmp_path / "m")
    again, _ = load_model(tmp_path / "m")
    with torch.inference_mode():
        for either in (model, again):
            street = either.encode("street", inputs["aerial"])
            same(street, model.encode("aerial", inputs["aerial"]))
    assert not any("street" in name for name in load_file(tmp_path / "m" / "model.safetensors"))


def test_towers_that_differ_cannot_be_tied() -> None:
    with pytest.raises(ModelError, match=r"cannot be tied: cols is 16 and 24\. "):
        replace(tiny(default_forms(SHAPES)), tied=True)
    with pytest.raises(ModelError, match="depth is 1 and 3"):
        tied(street=replace(tied().towers["street"], depth=3))
    with pytest.raises(ModelError, match="both aerial and street"):
        tied(street=None)
    both = {"aerial": (3, 200, 200), "street": (3, 300, 400)}
    resized = replace(base(default_forms(both)), tied=True)  # to one size
    assert resized.shape("street") == (3, 300, 400)


def test_a_model_written_before_there_were_kinds_is_read(
    model: UniGeoCLIP, tokenizer: Tokenizer, inputs: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Settings of the first version, without what was added since."""
    plain = replace(model.settings.coordinate, scale_layers=0, readout="mean")
    model = UniGeoCLIP(model.settings.with_towers(coordinate=plain)).eval()
    save_model(model, tokenizer, tmp_path / "m")
    path = tmp_path / "m" / "settings.json"
    description = json.loads(path.read_text())
    options = "kind learned_frequencies scale_layers readout dropout degree w0"
    later = {"coordinate": options.split(), "text": ["pooled"], "dsm": ["views"]}
    del description["settings"]["tied"]
    for tower, names in later.items():
        for name in names:
            del description["settings"][tower][name]
    path.write_text(json.dumps(description))
    again, _ = load_model(tmp_path / "m")
    with torch.inference_mode():
        vectors = again.encode("coordinate", inputs["coordinate"])
        same(vectors, model.encode("coordinate", inputs["coordinate"]))


@pytest.mark.parametrize(
    "settings", [tied(), small(default_forms(SHAPES)), tiny(default_forms({}, text=False)), base()]
)
def test_settings_survive_json(settings: ModelSettings) -> None:
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings


def test_an_unknown_setting_is_refused() -> None:
    values = to_json(tiny(default_forms(SHAPES)))
    values["aerial"]["pachtes"] = 3
    with pytest.raises(ModelError, match="pachtes"):
        from_json(values)


def test_another_patch_shape_and_an_absent_modality_are_refused(
    model: UniGeoCLIP, inputs: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(ModelError, match="shape"):
        model.encode("aerial", inputs["street"])
    with pytest.raises(ModelError, match="no encoder of 'radar'"):
        model.encode("radar", inputs["aerial"])


def test_the_temperature_has_a_floor_it_can_leave() -> None:
    model = UniGeoCLIP(ModelSettings(dimension=8, towers={"coordinate": tiny({}).coordinate}))
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    scale = model.scale()
    scale.backward()
    assert scale.item() == pytest.approx(100) and model.logit_scale.grad > 0


def count(settings: ModelSettings) -> dict[str, int]:
    """Parameters by modality, without making them."""
    with torch.device("meta"):
        model = UniGeoCLIP(settings, pretrained=False)
    return {
        modality: sum(p.numel() for p in encoder.parameters())
        for modality, encoder in model.encoders.items()
    }


def test_presets_are_of_the_sizes_they_say() -> None:
    """Source: the public coordinate encoder, 85.06 M; SigLIP 2 base, 92.9 M and 282.3 M; ViT-B/16,
    85.8 M with three bands and no head, here one band and four registers.
    """
    wide = {"aerial": (3, 224, 224), "street": (3, 224, 224), "dsm": (1, 224, 224)}
    paper = count(base(default_forms(wide)))
    assert paper["coordinate"] == pytest.approx(85.06e6, rel=1e-3)
    assert paper["aerial"] == paper["street"] == pytest.approx(92.9e6, rel=1e-3)
    assert paper["text"] == pytest.approx(282.3e6, rel=1e-3)
    assert paper["dsm"] == pytest.approx(85.8e6 - 2 * 16 * 16 * 768, rel=1e-3)
    assert sum(paper.values()) == pytest.approx(638.5e6, rel=1e-3)
    assert 37e6 < sum(count(small(default_forms(SHAPES))).values()) < 39e6
    assert 37e6 < sum(count(small(default_forms(wide))).values()) < 39e6
    assert 2.8e6 < sum(count(tiny(default_forms(SHAPES))).values()) < 3.1e6


def test_presets_take_seeds_and_leave_text_out() -> None:
    for preset in (tiny, small, base):
        settings = preset({}, seed=7)
        assert settings.modalities == ("coordinate",)
        assert settings.seed == settings.coordinate.seed == 7


def test_heights_above_ground_do_not_change_with_the_ground() -> None:
    encoder = SurfaceEncoder(
        SurfaceSettings(rows=16, cols=16, patch=8, width=32, depth=1, heads=2), 8
    )
    heights = torch.from_numpy(
        np.random.default_rng(0).normal(0, 9, (4, 1, 16, 16)).astype(np.float32)
    )
    with torch.inference_mode():
        assert torch.allclose(encoder(heights), encoder(heights + 1000), atol=1e-4)
        holes = heights.clone()
        holes[0] = torch.nan
        assert encoder(holes).isfinite().all()
    assert (
        low_ground(heights) <= heights.flatten(1).quantile(0.05, dim=1)[:, None, None, None]
    ).all()


def test_each_view_of_a_surface_has_low_ground_of_its_own() -> None:
    one = SurfaceSettings(rows=16, cols=16, patch=8, width=32, depth=1, heads=2)
    encoder = SurfaceEncoder(replace(one, views=2, channels=("relative", "level")), 8)
    heights = torch.from_numpy(
        np.random.default_rng(0).normal(0, 9, (4, 2, 16, 16)).astype(np.float32)
    )
    single = SurfaceEncoder(replace(one, channels=("relative", "level")), 8)
    planes = encoder.channels(heights)
    for view in range(2):
        assert torch.equal(planes[:, view::2], single.channels(heights[:, view : view + 1]))
    assert encoder(heights).shape == (4, 8)


def test_a_text_s_tokens_do_not_depend_on_case_or_other_texts(tokenizer: Tokenizer) -> None:
    alone = tokenize(tokenizer, ["RED SOIL. few trees."])
    assert torch.equal(alone, tokenize(tokenizer, SENTENCES)[:1])


def test_text_settings_need_room_for_bytes() -> None:
    with pytest.raises(ModelError, match="256 bytes"):
        TextSettings(width=8, depth=1, heads=1, vocabulary=100)
