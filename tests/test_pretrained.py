"""Starting from published checkpoints, by the real `from_pretrained` on small ones made here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Siglip2Config,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from unigeo.producer.encoders.images import ImageEncoder
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import base, small
from unigeo.producer.encoders.pretrained import fit_to_checkpoint
from unigeo.producer.encoders.saved_models import load_model, save_model
from unigeo.producer.encoders.text import tokenize, tokenizer_for
from unigeo.producer.encoders.tower_settings import ImageSettings
from unigeo.producer.observations.forms import default_forms
from unigeo.schemas.errors import ModelError

SENTENCES = ["Red soil. few trees.", "Dense forest. By the sea.", "City centre, brick walls."] * 20
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SHAPES = {"aerial": (3, 20, 24), "street": (1, 20, 24)}
Checkpoint = tuple[Path, SiglipModel]


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """The same function in float32, whichever kernels computed it."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def make(
    folder: Path, *, image: int = 16, patch: int = 8, pooled: int = 32, **vision: Any
) -> SiglipModel:
    """A SigLIP with its tokenizer; widths, lengths and ratios unlike those of any preset."""
    torch.manual_seed(0)
    images = SiglipVisionConfig(
        **SIZES, intermediate_size=48, image_size=image, patch_size=patch, **vision
    )
    text = SiglipTextConfig(
        **SIZES,
        intermediate_size=80,
        vocab_size=320,
        max_position_embeddings=8,
        projection_size=pooled,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=images.to_dict()))
    model.save_pretrained(folder)
    learned = Siglip2Tokenizer(add_eos_token=True, add_bos_token=False)
    learned.train_new_from_iterator(SENTENCES, vocab_size=320).save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("hub") / "siglip2-nano-patch8-16"
    return folder, make(folder)


def test_base_takes_the_sizes_and_weights_of_any_siglip(
    siglip2: Checkpoint, tmp_path: Path
) -> None:
    folder, theirs = siglip2
    settings = base(default_forms(SHAPES), pretrained=str(folder))
    settings = settings.with_towers(coordinate=replace(settings.coordinate, depth=0))
    assert settings.towers["aerial"].size == (16, 16) and settings.towers["aerial"].mlp_ratio == 1.5
    assert settings.text.tokens == 8 and settings.text.mlp_ratio == 2.5
    model = UniGeoCLIP(settings).eval()
    tokenizer = tokenizer_for(settings.text, [])
    tokens = tokenize(tokenizer, SENTENCES[:3])
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.inference_mode():
        pooled = model.encoders["text"].tower(input_ids=tokens).pooler_output
        close(pooled, theirs.get_text_features(input_ids=tokens).pooler_output)
        tower = model.encoders["aerial"].tower
        values = images / 127.5 - 1
        image_vectors = tower(pixel_values=values).pooler_output
        close(image_vectors, theirs.get_image_features(pixel_values=values).pooler_output)
        vectors = model.encode("street", torch.zeros(2, 1, 20, 24, dtype=torch.uint8))
        save_model(model, tokenizer, tmp_path / "m")
        again, loaded_tokenizer = load_model(tmp_path / "m")  # needs no checkpoint any more
        assert torch.equal(tokenize(loaded_tokenizer, SENTENCES[:3]), tokens)
        close(again.encode("text", tokens), model.encode("text", tokens))
        assert vectors.shape == (2, 768)


def test_texts_have_the_token_ids_of_the_checkpoint(siglip2: Checkpoint) -> None:
    folder, _ = siglip2
    settings = fit_to_checkpoint(small(default_forms({})), str(folder)).text
    texts = ["sea", "Dense FOREST, by the sea and the red soil of the city", ""]
    theirs = AutoTokenizer.from_pretrained(folder)(
        texts, padding="max_length", padding_side="right", truncation=True, max_length=8
    )
    tokens = tokenize(tokenizer_for(settings, []), texts)
    assert tokens.tolist() == theirs["input_ids"]


def test_a_tokenizer_of_another_checkpoint_is_refused(siglip2: Checkpoint, tmp_path: Path) -> None:
    folder, _ = siglip2
    settings = fit_to_checkpoint(small(default_forms({})), str(folder)).text
    signs = "".join(chr(0x4E00 + number) for number in range(400))
    other = Siglip2Tokenizer().train_new_from_iterator([signs], vocab_size=500)
    other.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ModelError, match="not of one checkpoint"):
        tokenizer_for(replace(settings, pretrained=str(tmp_path)), [])


def test_edges_beyond_the_last_patch_are_cut_and_a_wider_head_is_kept(tmp_path: Path) -> None:
    """As in SigLIP's 384 pixels of patch 14, and in the giant SigLIP 2."""
    make(tmp_path, image=18, patch=8, pooled=48)
    settings = base(default_forms({"aerial": (3, 18, 18)}), pretrained=str(tmp_path))
    settings = settings.with_towers(coordinate=None)
    model = UniGeoCLIP(settings)
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    images = torch.zeros(2, 3, 18, 18, dtype=torch.uint8)
    assert settings.text.pooled == 48 and settings.towers["aerial"].grid == (2, 2)
    assert model.encode("text", tokens).shape == model.encode("aerial", images).shape == (2, 768)
    assert model.patch_tokens("aerial", images).shape == (2, 2, 2, 32)
    rebuilt = UniGeoCLIP(settings, pretrained=False)
    rebuilt.load_state_dict(model.state_dict())


def image_settings(folder: Path | str, **changes: Any) -> ImageSettings:
    sizes = {"rows": 16, "cols": 16, "patch": 8, "width": 32, "depth": 1, "heads": 2}
    return ImageSettings(**sizes | {"mlp_ratio": 1.5, "pretrained": str(folder)} | changes)


def test_what_does_not_fit_is_refused(siglip2: Checkpoint, tmp_path: Path) -> None:
    folder, _ = siglip2
    with pytest.raises(ModelError, match="hidden_size is 32, not 64"):
        ImageEncoder(image_settings(folder, width=64, mlp_ratio=0.75), 32)
    with pytest.raises(ModelError, match="nowhere"):
        ImageEncoder(image_settings("/nowhere"), 32)
    with pytest.raises(ModelError, match="nowhere"):
        base(default_forms(SHAPES), pretrained="/nowhere")
    make(tmp_path / "relu", hidden_act="relu")
    with pytest.raises(ModelError, match="hidden_act is relu, not gelu_pytorch_tanh"):
        ImageEncoder(image_settings(tmp_path / "relu"), 32)
    Siglip2Config().save_pretrained(tmp_path / "naflex")
    with pytest.raises(ModelError, match="NaFlex"):
        base(default_forms(SHAPES), pretrained=str(tmp_path / "naflex"))


def test_pickled_weights_are_refused(siglip2: Checkpoint, tmp_path: Path) -> None:
    """Reading them could run code."""
    folder, theirs = siglip2
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"safetensors"):
        ImageEncoder(image_settings(tmp_path), 32)


def test_a_checkpoint_without_tokenizer_json_says_so(siglip2: Checkpoint, tmp_path: Path) -> None:
    folder, _ = siglip2
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    settings = fit_to_checkpoint(small(default_forms({})), str(folder)).text
    with pytest.raises(ModelError, match=r"must hold tokenizer\.json"):
        tokenizer_for(replace(settings, pretrained=str(tmp_path)), [])
