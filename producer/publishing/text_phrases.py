"""Phrases that occur in the texts of observations: runs of words, with the texts that have them.

A tower that was trained from scratch knows no words but those of its texts, and knows them in these
texts: the mean vector of the texts that have a phrase finds cells of its kind, where the vector of
the phrase alone is hardly better than chance (docs/results.md).
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.store.concepts import STOP_WORDS

SAMPLED_LOCATIONS = 10_000
"""Locations whose texts are read."""
_MOST_WORDS = 8
_READ_WORDS = 64
"""Words of a text that are looked at; towers read hardly more."""
_LEAST_TEXTS = 8
"""Texts that have a phrase, at least: fewer say more of themselves than of it."""
_LARGEST_SHARE = 0.25
"""Share of all texts, at most, that have a phrase: one that is in most tells nothing apart."""
_MOST_TEXTS = 200
"""Texts, at most, whose mean stands for a phrase."""
_MOST_PHRASES = 2000
"""Phrases, at most, the commonest."""
_SAME = 0.95
"""Share of a phrase's texts from which a longer one stands for it."""
_LOOSE_ENDS = STOP_WORDS | {"as", "its", "than", "that", "this", "whose", "which"}
"""Words with which no phrase begins or ends."""
_CLAUSE = re.compile(r"[.,;:!?()\[\]\"]+(?:\s+|$)")


def sampled_texts(observations: Observations, modality: str) -> list[str]:
    """Return the different texts at some locations, in the order of their first occurrence."""
    if modality not in observations.modalities:
        return []
    lonlat = observations.locations(SAMPLED_LOCATIONS, seed=0)
    return list(dict.fromkeys(text for text in observations.texts(lonlat, modality) if text))


def phrases_in(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Find phrases, and the texts that have each; the commonest phrases first.

    >>> texts = [f"Town {n}, in the Great Plains." for n in "abcdefgh"]
    >>> {phrase: len(found) for phrase, found in phrases_in(texts).items()}
    {'Great Plains': 8, 'Town': 8}
    """
    found: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        for phrase in set(_runs_of(text)):
            found[phrase].append(number)
    common = {phrase: rows for phrase, rows in found.items() if len(rows) >= _LEAST_TEXTS}
    most = max(_LEAST_TEXTS, _LARGEST_SHARE * len(texts))
    told = (phrase for phrase in common if len(common[phrase]) <= most)
    kept = {phrase: common[phrase] for phrase in set(told) - _contained(common)}
    order = sorted(kept, key=lambda phrase: (-len(kept[phrase]), phrase))[:_MOST_PHRASES]
    return {phrase: tuple(texts[k] for k in _some(kept[phrase])) for phrase in order}


def _runs_of(text: str) -> Iterator[str]:
    """Yield the runs of words within each clause of a text, without numbers or loose ends."""
    start = " ".join(text.split(maxsplit=_READ_WORDS)[:_READ_WORDS])
    for clause in _CLAUSE.split(start):
        words = clause.split()
        loose = [word.lower() in _LOOSE_ENDS for word in words]
        counts = [any(letter.isdigit() for letter in word) for word in words]
        for first in range(len(words)):
            # What is counted, as in "20 km", is no phrase either.
            if loose[first] or (first > 0 and counts[first - 1]):
                continue
            for last in range(first, min(first + _MOST_WORDS, len(words))):
                if counts[last]:
                    break
                if not loose[last]:
                    yield " ".join(words[first : last + 1])


def _contained(common: dict[str, list[int]]) -> set[str]:
    """Return phrases that nearly always stand in one longer phrase, which says more."""
    contained = set()
    for phrase, rows in common.items():
        words = phrase.split()
        for first in range(len(words)):
            for end in range(first + 1, len(words) + 1):
                part = " ".join(words[first:end])
                shorter = end - first < len(words)
                if shorter and part in common and len(rows) >= _SAME * len(common[part]):
                    contained.add(part)
    return contained


def _some(rows: Sequence[int]) -> list[int]:
    """Return all rows, or so many in even steps as one phrase has at most."""
    steps = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_TEXTS)).astype(int)
    return [rows[step] for step in steps]
