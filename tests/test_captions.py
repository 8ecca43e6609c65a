"""Captions by models of `transformers` from a folder, offline: a BLIP and a LLaVA made here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from unigeo.producer.sources.captions import BATCH, PROMPT, Captioner, open_captioner
from unigeo.producer.sources.findings import Finding, SourceFindings
from unigeo.producer.sources.map_features import Feature
from unigeo.producer.sources.set_description import TextRules, read_set_description
from unigeo.producer.sources.texts import TextSource
from unigeo.producer.sources.token_counts import estimate_tokens
from unigeo.schemas.errors import ModelError, ObservationsError

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "field", "house", "12", "of", "trees")


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "initializer_range": 1.0}  # fmt: skip
    torch.manual_seed(0)
    config = BlipConfig(
        text_config={
            **sizes, "vocab_size": len(WORDS), "intermediate_size": 16, "encoder_hidden_size": 16,
            "projection_dim": 16, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3,
            "pad_token_id": 0, "max_position_embeddings": 32,
        },
        vision_config={**sizes, "intermediate_size": 16, "image_size": 16, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    model = BlipForConditionalGeneration(config)
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    size = {"height": 16, "width": 16}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    return folder


PROMPT_WORDS = (
    "<image>",
    "user",
    "assistant",
    *PROMPT.replace(",", " ,").replace(".", " .").split(),
)
CHAT = """
{% for said in messages %}{{ said.role }}
{% for part in said.content %}{{ "<image>" if part.type == "image" else part.text }}
{% endfor %}{% endfor %}{% if add_generation_prompt %}assistant{% endif %}"""


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conversational model, whose prompt contains the image."""
    folder = tmp_path_factory.mktemp("llava")
    known = {word: k for k, word in enumerate(dict.fromkeys([*WORDS, *PROMPT_WORDS]))}
    words = Tokenizer(WordLevel(known, "[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", bos_token="[CLS]",
        eos_token="[SEP]", additional_special_tokens=["<image>"],
    )  # fmt: skip
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "initializer_range": 1.0}  # fmt: skip
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=16, patch_size=8, projection_dim=16),
        text_config=LlamaConfig(**sizes, vocab_size=len(known), num_key_value_heads=2,
                                bos_token_id=2, eos_token_id=3, pad_token_id=0),
        image_token_index=known["<image>"], vision_feature_layer=-1,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    side = {"height": 16, "width": 16}
    image = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    LlavaProcessor(
        image, tokenizer, patch_size=8, vision_feature_select_strategy="default",
        image_token="<image>", chat_template=CHAT, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def random_images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.ascontiguousarray(rng.integers(0, 255, (3, 1, 1), np.uint8).repeat(20, 1).repeat(20, 2))
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", ["blip", "llava"])
def test_a_caption_is_words_of_the_model_and_does_not_depend_on_the_others(
    kind: str, request: pytest.FixtureRequest
) -> None:
    captioner = open_captioner(str(request.getfixturevalue(kind)), tokens=6)
    images = random_images(BATCH + 3)
    together = captioner.captions(images)
    assert len(together) == len(images) and len(set(together)) > 1
    known = {word.lower() for word in WORDS[4:] + (PROMPT_WORDS if kind == "llava" else ())}
    assert all(set(caption.lower().split()) <= known for caption in together), together
    assert all(0 <= len(caption.split()) <= 6 for caption in together)
    for k in (0, BATCH, BATCH + 2):
        assert captioner.captions(images[k : k + 1]) == together[k : k + 1]


class FixedCaptioner(Captioner):
    """Returns the same caption for every image."""

    def captions(self, random_images: object) -> list[str]:
        return ["a field of 12 houses"] * len(list(random_images))  # type: ignore[call-overload]


class ObservationSource:
    reach_m = 1.0

    def observe(self, lonlat: np.ndarray) -> SourceFindings:
        return SourceFindings([Finding(random_images(1)[0]), Finding(reason="nodata")])


def test_a_caption_follows_the_facts_and_loses_its_numbers() -> None:
    captioner = FixedCaptioner(None, None, 8)
    known = [Feature("school", 5, 5.0, 52.0, "Oak Hill")]
    about = TextRules(kind="files", names="drop", caption="a folder")
    source = TextSource(
        about, lambda *_: known, estimate_tokens, 0, None, captioner, ObservationSource()
    )
    first, second = source.observe(np.array([(5.0, 52.0), (5.0, 52.0001)])).findings
    assert first.value.endswith("From above: a field of houses.") and "school" in first.value
    assert "From above" not in second.value  # no image, no caption


def test_a_folder_without_a_model_and_a_set_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model that describes images"):
        open_captioner(str(tmp_path), 8)
    (tmp_path / "set.toml").write_text(
        'name = "a"\nlicence = "b"\n[where]\nbbox = [1, 2, 3, 4]\ncount = 5\n'
        '[text]\nkind = "files"\nfiles = "a.geojson"\ncaption = "blip"\n'
    )
    with pytest.raises(ObservationsError):
        read_set_description(tmp_path / "set.toml")
