"""Encoder of texts: SigLIP's text transformer, and its tokenizer.

SigLIP pools the last position, which for all but the longest texts is padding: that position
attends to the text's tokens and serves as a summary. So every text is padded on the right to one
fixed length, without a mask, as in SigLIP's training; a text's vector cannot depend on its batch.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int64
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from transformers import SiglipTextConfig, SiglipTextModel

from unigeo.producer.encoders.images import ATTENTION
from unigeo.producer.encoders.modality_encoder import ModalityEncoder
from unigeo.producer.encoders.pretrained import (
    checkpoint_tower,
    load_pretrained_tokenizer,
    load_tower,
)
from unigeo.producer.encoders.tower_settings import TextSettings
from unigeo.schemas.errors import ModelError

PAD, END = "<pad>", "<eos>"


class TextEncoder(ModalityEncoder):
    """Encoder of token ids."""

    def __init__(self, settings: TextSettings, dimension: int, *, pretrained: bool = True) -> None:
        """Build the tower; `pretrained=False` does not read a checkpoint: weights follow later."""
        super().__init__()
        self.settings = settings
        sizes = {
            "hidden_size": settings.width,
            "num_hidden_layers": settings.depth,
            "num_attention_heads": settings.heads,
            "intermediate_size": round(settings.mlp_ratio * settings.width),
            "max_position_embeddings": settings.tokens,
            "vocab_size": settings.vocabulary,
            "projection_size": settings.pooled or settings.width,
        }
        if settings.pretrained is not None and pretrained:
            self.tower = load_tower(SiglipTextModel, settings.pretrained, sizes)
        else:
            config = SiglipTextConfig(
                **sizes,
                pad_token_id=0,  # ids of PAD and END in `train_tokenizer`
                bos_token_id=1,
                eos_token_id=1,
                attn_implementation=ATTENTION,
            )
            self.tower = SiglipTextModel(config)
        pooled = sizes["projection_size"]
        self.projection = nn.Identity() if pooled == dimension else nn.Linear(pooled, dimension)

    def forward(self, tokens: Int64[Tensor, "point token"]) -> Float[Tensor, "point dimension"]:
        """Encode texts; the vectors are not normalized."""
        pooled: Tensor = self.tower(input_ids=tokens).pooler_output
        vectors: Tensor = self.projection(pooled)
        return vectors

    def checkpoint_activations(self, on: bool) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        checkpoint_tower(self.tower, on)


def tokenizer_for(settings: TextSettings, texts: Iterable[str]) -> Tokenizer:
    """Return the tokenizer of a text tower: its checkpoint's, or one learned from the texts.

    Raises:
        ModelError: if the checkpoint's tokenizer cannot be loaded.
    """
    if settings.pretrained is not None:
        return pretrained_tokenizer(settings)
    return train_tokenizer(texts, settings)


def train_tokenizer(texts: Iterable[str], settings: TextSettings) -> Tokenizer:
    """Learn a byte-pair vocabulary; single bytes are tokens too, so that no text is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, end)]
    )
    return fix_length(tokenizer, settings.tokens)


def pretrained_tokenizer(settings: TextSettings) -> Tokenizer:
    """Load the tokenizer of the checkpoint that the tower starts from.

    Raises:
        ModelError: if it cannot be loaded, or has more tokens than the tower.
    """
    assert settings.pretrained is not None
    tokenizer, pad = load_pretrained_tokenizer(settings.pretrained)
    known = tokenizer.get_vocab_size(with_added_tokens=False)
    if known > settings.vocabulary:
        raise ModelError(
            f"the tokenizer of {settings.pretrained!r} knows {known} tokens, its text tower "
            f"{settings.vocabulary}: they are not of one checkpoint. Copy both from one folder."
        )
    return fix_length(tokenizer, settings.tokens, pad)


def fix_length(tokenizer: Tokenizer, tokens: int, pad: str = PAD) -> Tokenizer:
    """Make the tokenizer cut texts to `tokens`, or pad them on the right with `pad`."""
    pad_id = tokenizer.token_to_id(pad)
    tokenizer.enable_truncation(max_length=tokens)
    tokenizer.enable_padding(direction="right", length=tokens, pad_id=pad_id, pad_token=pad)
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str | None]) -> Int64[Tensor, "point token"]:
    """Return the token ids of each text, in lower case; a missing text is an empty one."""
    encoded = tokenizer.encode_batch([(text or "").lower() for text in texts])
    assert tokenizer.padding is not None, "made by fix_length"
    ids = torch.tensor([one.ids for one in encoded], dtype=torch.int64)
    return ids.reshape(len(texts), tokenizer.padding["length"])
