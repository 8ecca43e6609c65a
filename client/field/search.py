"""Looks text up among a field's concepts, phrases whose vectors its publisher stored; no torch.

Text that is stored as a phrase gives that phrase's vector. Other text gives the mean of the phrases
that share most words with it, rare words weighing more than common ones.
"""

import difflib
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32

from unigeo.client.reading.leading_bands import leading_directions
from unigeo.schemas.errors import LayoutError, StoreError, WordsError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.store_errors import damage_errors
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.concepts import (
    CENTRED,
    CENTRES,
    FUSED_PHRASES,
    GROUP,
    MOST_PHRASES,
    PHRASES,
    STOP_WORDS,
    VECTORS,
    centred,
)
from unigeo.schemas.store.layout import FUSED
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.text_arrays import texts_of_bytes

_TIE = 0.999
"""Share of the best phrase's score from which other phrases count as equally good."""


@dataclass(frozen=True, eq=False)
class ConceptMatch:
    """The concepts that match a text."""

    vector: Float32[np.ndarray, " band"]
    """Unit vector, the normalized mean of the phrases' vectors."""
    phrases: tuple[str, ...]
    """The stored phrases that match."""
    unknown: tuple[str, ...]
    """Words of the text that no phrase contains."""
    fused: Float32[np.ndarray, " number"] | None = None
    """The same of the phrases as they are mapped to fused vectors, if they are."""
    left_out: tuple[str, ...] = ()
    """Words of the text that other phrases contain, and none of those that match."""


@dataclass(frozen=True, eq=False)
class Concepts:
    """Phrases and their unit vectors."""

    phrases: tuple[str, ...]
    vectors: Float32[np.ndarray, "phrase band"]
    centres: Mapping[str, Float32[np.ndarray, " band"]] = field(default_factory=dict)
    """Mean vector of each modality that is compared with phrases from its centre; see
    `schemas.store.concepts`."""
    fused: Float32[np.ndarray, "phrase number"] | None = None
    """Unit vectors of the phrases as they are mapped to fused vectors, if they are."""

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.phrases[:3]))
        return f"<Concepts: {len(self.phrases):,} phrases, such as {shown:.200}>"

    def find(self, words: Any) -> ConceptMatch:
        """Return the vector of a text.

        Raises:
            WordsError: if the words are no text; or if no phrase contains any of them; then it
                names similar phrases.
        """
        if not isinstance(words, str):
            raise WordsError(
                f"words are text, such as 'dense forest', not a {type(words).__name__}; search for "
                "several one by one"
            )
        wanted = _words(words)
        same = [number for number, phrase in enumerate(self._phrase_words) if phrase == wanted]
        if same:
            return self._mean(same, ())
        known = [word for word in wanted if word in self._rarity]
        if not known:
            near = difflib.get_close_matches(" ".join(wanted), self.phrases, 3, 0.4)
            like = ", ".join(map(repr, near or self.phrases[:3]))
            raise WordsError(
                f"none of the field's {len(self.phrases):,} concepts has a word of {words!r}; "
                f"there are, for example, {like}. `field.concepts.phrases` lists them."
            )
        scores = np.array(
            [self._similarity(frozenset(known), phrase) for phrase in self._phrase_words]
        )
        best = np.flatnonzero(scores >= _TIE * scores.max()).tolist()
        covered = frozenset().union(*(self._phrase_words[number] for number in best))
        unknown = tuple(sorted(wanted - self._rarity.keys()))
        return self._mean(best, unknown, tuple(sorted(frozenset(known) - covered)))

    def _mean(
        self, numbers: list[int], unknown: tuple[str, ...], left_out: tuple[str, ...] = ()
    ) -> ConceptMatch:
        phrases = tuple(self.phrases[number] for number in numbers)
        fused = None if self.fused is None else _direction_of_sum(self.fused[numbers])
        vector = _direction_of_sum(self.vectors[numbers])
        return ConceptMatch(vector, phrases, unknown, fused, left_out)

    def leading(self, dims: int) -> "Concepts":
        """Return the concepts by the leading numbers of their vectors, at unit length."""
        width = self.vectors.shape[1]
        if dims >= width:
            return self
        # Axes are turned at random: the leading numbers of a unit vector have about this length.
        length = math.sqrt(dims / width)
        centres = {name: centre[:dims] / length for name, centre in self.centres.items()}
        fused = None if self.fused is None else leading_directions(self.fused, dims)
        return Concepts(self.phrases, leading_directions(self.vectors, dims), centres, fused)

    def query(
        self, match: ConceptMatch, modality: str
    ) -> tuple[Float32[np.ndarray, " band"], Float32[np.ndarray, " band"] | None]:
        """Return the vector that cells are compared with, and the centre to take off theirs.

        Args:
            match: the concepts that match a text.
            modality: the modality of the cells.

        Returns:
            Without a centre, the match's own vector and None.
        """
        if modality == FUSED and match.fused is not None:
            return match.fused, None
        centre = self.centres.get(modality)
        if centre is None:
            return match.vector, None
        mean = self.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return centred(match.vector, mean), centre

    @cached_property
    def _phrase_words(self) -> list[frozenset[str]]:
        return [_words(phrase) for phrase in self.phrases]

    @cached_property
    def _rarity(self) -> dict[str, float]:
        """Weight of each word: its inverse document frequency among the phrases."""
        counts = Counter(word for words in self._phrase_words for word in words)
        return {word: math.log(1 + len(self.phrases) / count) for word, count in counts.items()}

    def _similarity(self, wanted: frozenset[str], phrase: frozenset[str]) -> float:
        """Return the weighted Jaccard similarity of two sets of words."""
        both = sum(self._rarity[word] for word in wanted & phrase)
        return both / sum(self._rarity[word] for word in wanted | phrase) if both else 0.0


def load_concepts(source: Any, url: str) -> Concepts:
    """Read a field's concepts.

    Args:
        source: the store as `schemas.io.stores.open_store` takes it.
        url: its name in messages.

    Raises:
        LayoutError: if the store has none, or they are malformed.
        StoreError: if the store cannot be read.
    """
    import zarr

    root = open_group(source)
    group = root.get(GROUP)
    if not isinstance(group, zarr.Group):
        raise LayoutError(
            f"{url} has no group {GROUP!r}, so it cannot be searched by words: its model has no "
            "text encoder, or it was published before there were concepts. Search by a place: "
            "field.similar(point)"
        )
    phrases, vectors = group.get(PHRASES), group.get(VECTORS)
    if not (isinstance(phrases, zarr.Array) and isinstance(vectors, zarr.Array)):
        raise LayoutError(f"the concepts of {url} lack {PHRASES!r} or {VECTORS!r}")
    if vectors.ndim != 2 or vectors.dtype != np.int8 or phrases.ndim != 1:
        raise LayoutError(f"the concepts of {url} are no vectors of int8 and bytes of their words")
    if vectors.shape[0] > MOST_PHRASES:
        raise LayoutError(f"{url} claims {vectors.shape[0]:,} concepts: that is no list of phrases")
    stored = _read(vectors, VECTORS, url)
    texts = texts_of_bytes(_read(phrases, PHRASES, url), f"{GROUP}/{PHRASES}")
    if len(texts) != len(stored):
        raise LayoutError(f"the concepts of {url}: {len(texts)} phrases, {len(stored)} vectors")
    centres = _load_centres(group, stored.shape[1], url)
    return Concepts(tuple(texts), dequantize(stored), centres, _load_fused(group, len(texts), url))


def _load_centres(group: Any, bands: int, url: str) -> dict[str, Float32[np.ndarray, " band"]]:
    """Read the centres of modalities; none if the store has none.

    Raises:
        LayoutError: if they are malformed.
        StoreError: if they cannot be read.
    """
    import zarr

    array = group.get(CENTRES)
    if array is None:
        return {}
    names = array.attrs.get(CENTRED) if isinstance(array, zarr.Array) else None
    if not isinstance(names, list) or array.shape != (len(names), bands):
        raise LayoutError(f"{GROUP}/{CENTRES} of {url} are not one vector for each modality")
    values = _read(array, CENTRES, url).astype(np.float32)
    return dict(zip(map(str, names), values, strict=True))


def _load_fused(group: Any, count: int, url: str) -> Float32[np.ndarray, "phrase number"] | None:
    """Read the phrases as they are mapped to fused vectors; None if the store has none.

    Raises:
        LayoutError: if they are malformed.
        StoreError: if they cannot be read.
    """
    import zarr

    array = group.get(FUSED_PHRASES)
    if array is None:
        return None
    is_array = isinstance(array, zarr.Array) and array.ndim == 2 and array.dtype == np.int8
    if not is_array or array.shape[0] != count:
        raise LayoutError(f"{GROUP}/{FUSED_PHRASES} of {url} are not one vector for each phrase")
    return dequantize(_read(array, FUSED_PHRASES, url))


def _read(array: Any, name: str, url: str) -> np.ndarray:
    """Read an array of the concepts.

    Raises:
        LayoutError: if it claims more than is read at once.
        StoreError: if it cannot be read.
    """
    check_memory(array, url)
    try:
        return np.asarray(array[...])
    except damage_errors() as error:
        if isinstance(error, LayoutError | StoreError):
            raise
        raise StoreError(f"cannot read {GROUP}/{name} of {url}: {error}") from error


def _direction_of_sum(
    vectors: Float32[np.ndarray, "phrase band"],
) -> Float32[np.ndarray, " band"]:
    """Return the unit vector of a sum of vectors.

    Raises:
        WordsError: if they cancel each other out.
    """
    total = vectors.astype(np.float64).sum(axis=0)
    length = np.linalg.norm(total)
    if not length > 0:
        raise WordsError("the concepts that match cancel each other out; ask for fewer words")
    return np.asarray(total / length, np.float32)


def _words(text: str) -> frozenset[str]:
    """Return the words of a text in lower case, without plural endings and stop words."""
    words = re.findall(r"[^\W_]+", text.lower())
    content = [word for word in words if word not in STOP_WORDS] or words
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in content
    )
