"""The model folder, its towers and what they refuse."""

import json

import numpy as np
import pytest
import torch
from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig

from unigeo.producer.encoders.model import UniGeoCLIP, load_model, model_hash, save_model
from unigeo.producer.encoders.pictures import PictureEncoder
from unigeo.producer.encoders.presets import base, tiny
from unigeo.producer.encoders.settings import (
    ModelSettings,
    PictureSettings,
    SurfaceSettings,
    WordSettings,
    from_json,
    to_json,
)
from unigeo.producer.encoders.surface import SurfaceEncoder, low_ground
from unigeo.producer.encoders.words import tokenize, train_tokenizer
from unigeo.schemas.errors import ModelError

SHAPES = {"aerial": (3, 16, 16), "street": (3, 16, 24), "dsm": (1, 16, 16)}
SENTENCES = ["Red soil. few trees.", "Dense forest. By the sea.", "City centre, brick walls."] * 20


@pytest.fixture(scope="module")
def model():
    return UniGeoCLIP(tiny(SHAPES, seed=3)).eval()


@pytest.fixture(scope="module")
def tokenizer(model):
    return train_tokenizer(SENTENCES, model.settings.text)


@pytest.fixture(scope="module")
def inputs(model, tokenizer):
    rng = np.random.default_rng(0)
    return {
        "coordinate": torch.from_numpy(rng.uniform(-60, 60, (5, 2))),
        "aerial": torch.from_numpy(rng.integers(0, 256, (5, 3, 16, 16), np.uint8)),
        "street": torch.from_numpy(rng.integers(0, 256, (5, 3, 16, 24), np.uint8)),
        "dsm": torch.from_numpy(rng.normal(200, 50, (5, 1, 16, 16)).astype(np.float32)),
        "text": tokenize(tokenizer, [*SENTENCES[:3], None, "sea"]),
    }


def test_every_modality_gives_unit_vectors_of_one_space(model, inputs):
    with torch.inference_mode():
        for vectors in model(inputs).values():
            assert vectors.shape == (5, model.settings.dimension)
            assert vectors.norm(dim=1).numpy() == pytest.approx(np.ones(5), abs=1e-5)


def test_no_vector_depends_on_its_batch(model, inputs):
    with torch.inference_mode():
        for modality, values in inputs.items():
            together, alone = model.encode(modality, values), model.encode(modality, values[2:3])
            assert (together[2:3] - alone).abs().max() < 1e-6


def test_the_rotation_keeps_cosines(model):
    identity = model.rotation @ model.rotation.T
    assert torch.allclose(identity, torch.eye(len(identity)), atol=1e-5)


def test_a_saved_model_is_read_back_the_same(model, tokenizer, inputs, tmp_path):
    save_model(model, tokenizer, tmp_path / "m", {"card.md": "# Card\n"})
    again, words = load_model(tmp_path / "m")
    assert again.settings == model.settings and len(model_hash(tmp_path / "m")) == 64
    assert words is not None and torch.equal(
        tokenize(words, SENTENCES), tokenize(tokenizer, SENTENCES)
    )
    with torch.inference_mode():
        for modality, values in inputs.items():
            assert torch.equal(again.encode(modality, values), model.encode(modality, values))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "settings.json"])
@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_damaged_model_is_named(model, tokenizer, tmp_path, name, harm):
    save_model(model, tokenizer, tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-7]) if harm == "cut" else path.unlink()
    with pytest.raises(ModelError, match=name):
        load_model(tmp_path / "m")


def test_a_model_of_a_later_format_is_refused(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path / "m")
    path = tmp_path / "m" / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        load_model(tmp_path / "m")


def test_a_folder_of_something_else_is_left_alone(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="not a model"):
        save_model(model, None, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("settings", [tiny(SHAPES), tiny({}, text=False), base()])
def test_settings_survive_json(settings):
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings


def test_an_unknown_setting_is_refused():
    values = to_json(tiny(SHAPES))
    values["aerial"]["pachtes"] = 3
    with pytest.raises(ModelError, match="pachtes"):
        from_json(values)


def test_another_patch_shape_and_an_absent_modality_are_refused(model, inputs):
    with pytest.raises(ModelError, match="shape"):
        model.encode("aerial", inputs["street"])
    with pytest.raises(ModelError, match="no encoder of 'radar'"):
        model.encode("radar", inputs["aerial"])


def test_the_temperature_has_a_floor_it_can_leave():
    model = UniGeoCLIP(ModelSettings(dimension=8, coordinate=tiny({}).coordinate))
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    scale = model.scale()
    scale.backward()
    assert scale.item() == pytest.approx(100) and model.logit_scale.grad > 0


def test_base_is_the_paper_s_size():
    """Source: the public coordinate encoder has 85.06 M parameters."""
    settings = ModelSettings(dimension=768, coordinate=base().coordinate)
    count = sum(p.numel() for p in UniGeoCLIP(settings).encoders.parameters())
    assert count == pytest.approx(85.06e6, rel=1e-3)


def test_heights_above_ground_do_not_change_with_the_ground():
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


def test_a_text_s_tokens_do_not_depend_on_case_or_company(tokenizer):
    alone = tokenize(tokenizer, ["RED SOIL. few trees."])
    assert torch.equal(alone, tokenize(tokenizer, SENTENCES)[:1])


def test_published_checkpoints_start_a_tower(tmp_path):
    """The real `from_pretrained`, on a small SigLIP made here."""
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    vision = SiglipVisionConfig(**sizes, image_size=16, patch_size=8)
    text = SiglipTextConfig(**sizes, vocab_size=300, max_position_embeddings=8)
    both = SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    both.save_pretrained(tmp_path)
    settings = PictureSettings(
        rows=20, cols=24, resize=16, patch=8, width=32, depth=1, heads=2, mlp_ratio=2,
        pretrained=str(tmp_path),
    )  # fmt: skip
    encoder = PictureEncoder(settings, 32).eval()
    ours, theirs = encoder.tower.state_dict(), both.vision_model.state_dict()
    names = [name for name in theirs if any(n.endswith(name) for n in ours)]
    assert len(names) == len(theirs)
    for name in names:
        match = next(n for n in ours if n.endswith(name))
        assert torch.equal(ours[match], theirs[name])
    pictures = torch.zeros(2, 3, 20, 24, dtype=torch.uint8)
    assert encoder(pictures).shape == (2, 32)
    other = PictureSettings(
        rows=16, cols=16, patch=8, width=64, depth=1, heads=2, mlp_ratio=2, pretrained=str(tmp_path)
    )
    with pytest.raises(ModelError, match="hidden_size is 32, not 64"):
        PictureEncoder(other, 32)
    with pytest.raises(ModelError, match="nowhere"):
        PictureEncoder(
            PictureSettings(
                rows=16, cols=16, patch=8, width=32, depth=1, heads=2, pretrained="/nowhere"
            ),
            32,
        )


def test_words_settings_need_room_for_bytes():
    with pytest.raises(ModelError, match="256 bytes"):
        WordSettings(width=8, depth=1, heads=1, vocabulary=100)
