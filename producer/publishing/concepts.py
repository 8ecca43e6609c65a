"""The group `concepts` of a store: phrases and their vectors from the model's text encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import zarr
from jaxtyping import Float, Int8

from unigeo.producer.publishing.derive import sample_vectors
from unigeo.producer.storage.staged_groups import add_array, new_group, replace_group
from unigeo.schemas.store.concepts import (
    CENTRED,
    CENTRES,
    DIMENSIONS,
    FUSED_PHRASES,
    GROUP,
    LEAST_CENTRED,
    PHRASES,
    VECTORS,
)
from unigeo.schemas.store.layout import FUSED, Layout
from unigeo.schemas.store.quantization import dequantize, quantize
from unigeo.schemas.store.text_arrays import texts_to_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from unigeo.producer.encoders.model import UniGeoCLIP
    from unigeo.producer.publishing.phrases import Phrase

_BATCH = 256
"""Number of texts encoded at once."""


@dataclass(frozen=True, eq=False)
class ConceptVectors:
    """Labels of phrases and their vectors."""

    phrases: tuple[str, ...]
    vectors: Int8[np.ndarray, "phrase band"]
    """Quantized unit vectors, one for each phrase."""
    fused: Int8[np.ndarray, "phrase number"] | None = None
    """The phrases as the map to fused vectors shows them; None if they are not mapped."""


def concepts_of(
    model: "UniGeoCLIP",
    tokenizer: "Tokenizer | None",
    phrases: "Sequence[Phrase]",
    stored: Sequence[str] = (),
) -> ConceptVectors | None:
    """Encode phrases; return None if the model has no text encoder.

    A phrase's vector is the direction of the mean vector of its texts.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        phrases: the phrases.
        stored: modalities of the store; if `fused` is one of them, and is made by a map of others,
            the phrases are mapped as well.
    """
    import torch  # here, so that publishing a store without texts does not load it

    from unigeo.producer.encoders.text import tokenize

    modalities = model.settings.text_modalities
    if not modalities or tokenizer is None or not phrases:
        return None
    device = model.rotation.device
    texts = list(dict.fromkeys(text for phrase in phrases for text in phrase.texts))
    encoded = np.empty((len(texts), model.settings.dimension), np.float32)
    with torch.inference_mode():
        for first in range(0, len(texts), _BATCH):
            tokens = tokenize(tokenizer, texts[first : first + _BATCH]).to(device)
            encoded[first : first + _BATCH] = (
                model.encode(modalities[0], tokens).float().cpu().numpy()
            )
    row_of = {text: row for row, text in enumerate(texts)}
    rows = ([row_of[text] for text in phrase.texts] for phrase in phrases)
    sums = np.stack([encoded[one].sum(axis=0) for one in rows])
    labels = tuple(phrase.label for phrase in phrases)
    return ConceptVectors(labels, quantize(sums), _fused_phrases(model, sums, stored))


def _fused_phrases(
    model: "UniGeoCLIP", vectors: Float[np.ndarray, "phrase band"], stored: Sequence[str]
) -> Int8[np.ndarray, "phrase number"] | None:
    """Map the directions of phrases from their mean, as if all views of a cell had that direction.

    A view is mapped by its difference from its modality's mean. Text lies apart from all of them,
    so that it is a phrase's difference from the mean of phrases that compares with theirs.
    """
    if model.fusion is None or FUSED not in stored or len(vectors) < LEAST_CENTRED:
        return None
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    parts = [name in stored for name in model.fusion.modalities]
    summed = model.fusion.maps[parts].sum(dim=0).cpu().numpy()
    return quantize((units - units.mean(axis=0)) @ summed)


def centres_of(group: zarr.Group, layout: Layout) -> dict[str, Float[np.ndarray, " band"]]:
    """Return the mean unit vector of each modality that is compared with text.

    It is the mean of the sample of cells that colours are fitted to, which depends on the store
    alone.
    """
    centres = {}
    for name in layout.model_width_modalities:
        sampled = sample_vectors(group, name, layout)
        if len(sampled):
            mean = dequantize(sampled).mean(axis=0, dtype=np.float64)
            centres[name] = mean.astype(np.float32)
    return centres


def write_concepts(group: zarr.Group, concepts: ConceptVectors, layout: Layout) -> None:
    """Write the group; an unfinished one is replaced."""
    staged = new_group({"count": len(concepts.phrases)})
    add_array(staged, PHRASES, texts_to_bytes(concepts.phrases), DIMENSIONS[PHRASES])
    add_array(staged, VECTORS, concepts.vectors, DIMENSIONS[VECTORS])
    if concepts.fused is not None:
        add_array(staged, FUSED_PHRASES, concepts.fused, ("phrase", layout.dimension(FUSED)))
    centres = centres_of(group, layout) if len(concepts.phrases) >= LEAST_CENTRED else {}
    if centres:
        names, values = list(centres), np.stack(list(centres.values()))
        add_array(staged, CENTRES, values, DIMENSIONS[CENTRES], {CENTRED: names})
    replace_group(group.store, GROUP, staged)
