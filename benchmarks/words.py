"""Measure what words find in a store: hubs, and the rank of locations that captions describe.

    python -m benchmarks.words STORE
    python -m benchmarks.words STORE --model MODEL --captions places_text.parquet --count 500

For each modality and rule: how many of their 100 best cells two of 13 phrases share on average;
and, with a model folder and a table of `text`, `lon` and `lat`, the median rank of the cell that
holds a location among all cells, by its caption. `--held-out KM,SHARE,SEED` asks for captions of
the spatial blocks that training held out. Captions need the producer.

A second table says how well a phrase tells captions that have it from those that have not, by the
score of their cells: the area under the ROC curve, averaged over up to 100 phrases of the store
that stand in at least 30 of the captions; for the vectors of the store, and for those of the
phrases `alone`, without the texts that have them.

The rules are `plain`, the cosine; `centred`, from the centres of the store, or the means of its
cells and phrases where it has none; and `softmax`, the plain cosine less the soft maximum of those
with 384 other texts of the kind, since some cells are near to every text. Vectors of `fused` that a
map makes are compared with mapped texts, which are centred.
"""

import argparse
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from unigeo import client
from unigeo.client.field.search import Concepts
from unigeo.schemas.errors import WordsError
from unigeo.schemas.store.concepts import centred
from unigeo.schemas.store.layout import FUSED
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status

PHRASES = (
    "forest", "a desert", "snow", "high mountains", "a city", "a beach", "a swamp", "a lake",
    "wheat fields", "a volcano", "downtown", "cotton fields", "a vineyard",
)  # fmt: skip
BEST = 100
RULES = ("plain", "centred", "softmax")
_BLOCK = 64
"""Captions that are encoded, and whose ranks are counted, together."""
_OTHERS = 5000
"""Other captions, at most, whose mean says where captions lie."""
_LEAST_HAVING = 30
"""Captions that have a phrase, at least, for it to be judged."""
_BANK, _TEMPERATURE = 384, 0.03
"""Texts of a soft maximum, and what divides their cosines."""


@dataclass(frozen=True)
class Texts:
    """Unit vectors of texts of one kind: phrases, or captions."""

    asked: np.ndarray
    """The texts that are searched for."""
    others: np.ndarray
    """Texts that say where all of them lie."""

    def mapped(self, summed: np.ndarray) -> "Texts":
        """Return the texts as the map to fused vectors shows them; see `concepts_of`."""
        mean = self.others.mean(axis=0)
        moved = [(one - mean) @ summed for one in (self.asked, self.others)]
        return Texts(*(one / np.linalg.norm(one, axis=1, keepdims=True) for one in moved))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument("--model", help="folder of the model, for captions")
    parser.add_argument("--captions", help="Parquet of text, lon and lat")
    parser.add_argument("--count", type=int, default=500, help="captions, drawn with seed 0")
    parser.add_argument("--held-out", help="block_km,share,seed of the training's spatial hold-out")
    options = parser.parse_args()
    if (options.model is None) != (options.captions is None):
        parser.error("--model and --captions go together")
    field = client.open_field(options.store)
    concepts = field.concepts
    model = open_model(options.model) if options.model else None
    rows: list[dict[str, Any]] = []
    counts: dict[str, str] = {}
    names = field.attributes.field_layout().model_width_modalities
    kinds = {"overlap": phrases_of(concepts, mapped=False)}
    if model is not None:
        kinds["median rank"], lonlat = captions_of(options, model)
    mapped = {}
    if concepts.fused is not None:
        names += (FUSED,)
        mapped["overlap"] = phrases_of(concepts, mapped=True)
        if model is not None:
            mapped["median rank"] = kinds["median rank"].mapped(summed_maps(model, names))
    for name in names:
        cells, row_of = read_cells(field, name)
        centre = concepts.centres.get(name, cells.mean(axis=0, dtype=np.float64))
        of_map = name == FUSED and bool(mapped)
        for rule in ("centred", "softmax") if of_map else RULES:
            row: dict[str, Any] = {"modality": name, "rule": rule}
            for measure, texts in (mapped if of_map else kinds).items():
                seen, query, hubs = cells, texts.asked, np.zeros(len(cells), np.float32)
                if rule == "softmax":
                    hubs = soft_maxima(cells, texts.others)
                elif rule == "centred" and not of_map:
                    seen = centred(cells, np.asarray(centre, np.float32))
                    query = centred(query, texts.others.mean(axis=0))
                if measure == "overlap":
                    row[measure] = overlap(seen, query, hubs)
                    continue
                ranks = ranks_of(field, seen, row_of, query, lonlat, hubs)
                row[measure] = float(np.median(ranks))
                counts[name] = f"{len(ranks):,} captions among {len(cells):,} cells"
            rows.append(row)
    table = pd.DataFrame(rows).pivot(index="modality", columns="rule")
    shown = table[list(kinds)]
    print(shown.to_string(float_format="%.1f"))
    for name, count in counts.items():
        print(f"{name}: {count}")
    if model is not None:
        print(told_apart(field, model, options).to_string(float_format="%.3f"))


def phrases_of(concepts: Concepts, *, mapped: bool) -> Texts:
    """Return the vectors of the phrases; of others of the store where it lacks most of them."""
    vectors = concepts.fused if mapped else concepts.vectors
    assert vectors is not None
    found = []
    for phrase in PHRASES:
        try:
            match = concepts.find(phrase)
        except WordsError:
            continue
        found.append(match.fused if mapped else match.vector)
    if len(found) == len(PHRASES):
        return Texts(np.stack(found), vectors)
    drawn = np.random.default_rng(0).choice(len(vectors), len(PHRASES), replace=False)
    print("Phrases:", "; ".join(concepts.phrases[k] for k in drawn))
    return Texts(vectors[drawn], vectors)


def open_model(folder: str) -> tuple[Any, Any]:
    """Return a model that encodes text, and its tokenizer."""
    from unigeo.producer.encoders.saved_models import load_model

    model, tokenizer = load_model(folder)
    if tokenizer is None:
        raise SystemExit(f"{folder} has no text encoder")
    return model, tokenizer


def captions_of(options: Any, model: tuple[Any, Any]) -> tuple[Texts, np.ndarray]:
    """Encode captions; return those that are asked for and others, and the locations of the first.

    The others are of locations that training saw, if `--held-out` says which.
    """
    table, is_asked = read_captions(options)
    drawn = table[is_asked].sample(min(options.count, int(is_asked.sum())), random_state=0)
    rest = table.drop(drawn.index) if is_asked.all() else table[~is_asked]
    rest = rest.sample(min(_OTHERS, len(rest)), random_state=1)
    asked, others = (encoded(model, part["text"].tolist()) for part in (drawn, rest))
    return Texts(asked, others), drawn[["lon", "lat"]].to_numpy()


def read_captions(options: Any) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the captions, and which of them may be asked for."""
    from unigeo.producer.training.holdout import held_out

    table = pd.read_parquet(options.captions)
    if not options.held_out:
        return table, np.ones(len(table), bool)
    block_km, share, seed = options.held_out.split(",")
    lonlat = table[["lon", "lat"]].to_numpy()
    return table, held_out(lonlat, float(block_km), float(share), int(seed))


def told_apart(field: client.Field, model: tuple[Any, Any], options: Any) -> pd.DataFrame:
    """Return, for each modality, the mean area under the ROC curve of phrases in captions."""
    table, is_asked = read_captions(options)
    table, concepts = table[is_asked], field.concepts
    texts = table["text"].tolist()
    having = np.array([[phrase in text for text in texts] for phrase in concepts.phrases])
    count = having.sum(axis=1)
    known = np.flatnonzero((count >= _LEAST_HAVING) & (count <= len(texts) / 2))
    known = known[:: max(1, -(-len(known) // 100))]
    alone = encoded(model, [concepts.phrases[k] for k in known])
    alone -= alone.mean(axis=0)
    rows = []
    names = field.attributes.field_layout().model_width_modalities
    stored = concepts.vectors[known] - concepts.vectors.mean(axis=0)
    for name in (*names, *(() if concepts.fused is None else (FUSED,))):
        cells, row_of = read_cells(field, name)
        home = homes(field, row_of, table[["lon", "lat"]].to_numpy())
        asked_for = {"of the store": stored, "alone": alone}
        if name in concepts.centres:
            cells = centred(cells, np.asarray(concepts.centres[name], np.float32))
        else:
            assert concepts.fused is not None
            mapped = alone @ summed_maps(model, names)
            asked_for = {"of the store": concepts.fused[known], "alone": mapped}
        seen, row = cells[home[home >= 0]], {"modality": name}
        for kind, queries in asked_for.items():
            asked = zip(queries, having[known][:, home >= 0], strict=True)
            row[kind] = np.mean([area_under(seen @ query, found) for query, found in asked])
        rows.append(row)
    print(f"{len(known)} phrases in {len(texts):,} captions")
    return pd.DataFrame(rows).set_index("modality")


def summed_maps(model: tuple[Any, Any], modalities: tuple[str, ...]) -> np.ndarray:
    """Return the sum of a model's maps of the stored modalities to fused vectors."""
    fusion = model[0].fusion
    stored = [name in modalities for name in fusion.modalities]
    return np.asarray(fusion.maps[stored].sum(dim=0))


def area_under(scores: np.ndarray, having: np.ndarray) -> float:
    """Return the area under the ROC curve; ties have an order by chance."""
    rank = np.argsort(np.argsort(scores))
    positive = int(having.sum())
    above = rank[having].sum() - positive * (positive - 1) / 2
    return float(above / (positive * (len(having) - positive)))


def encoded(model: tuple[Any, Any], texts: list[str]) -> np.ndarray:
    """Return the unit vectors of texts."""
    import torch

    from unigeo.producer.encoders.text import tokenize

    encoder, tokenizer = model
    modality, vectors = encoder.settings.text_modalities[0], []
    with torch.inference_mode():
        for first in range(0, len(texts), _BLOCK):
            tokens = tokenize(tokenizer, texts[first : first + _BLOCK])
            vectors.append(encoder.encode(modality, tokens).float().cpu().numpy())
    return np.concatenate(vectors)


def read_cells(field: client.Field, name: str) -> tuple[np.ndarray, dict[int, int]]:
    """Return all unit vectors of a modality, and the row of each cell's by its number."""
    parts, numbers = [], []
    for piece in field.iter_region(None, name):
        row, col = np.nonzero(piece.status[name] == Status.VALID)
        parts.append(dequantize(piece.stored[name][row, col]))
        numbers.append((row + piece.window.row) * field.grid.shape[1] + col + piece.window.col)
    return np.concatenate(parts), {n: k for k, n in enumerate(np.concatenate(numbers).tolist())}


def soft_maxima(cells: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return the soft maximum of each cell's cosines with some of the texts."""
    drawn = np.random.default_rng(0).choice(len(texts), min(_BANK, len(texts)), replace=False)
    logits = cells @ texts[drawn].T / _TEMPERATURE
    most = logits.max(axis=1)
    mean = np.exp(logits - most[:, None]).mean(axis=1)
    return np.asarray(_TEMPERATURE * (most + np.log(mean)))


def overlap(cells: np.ndarray, queries: np.ndarray, hubs: np.ndarray) -> float:
    """Return how many of their best cells two queries share on average."""
    scores = cells @ queries.T - hubs[:, None]
    best = [set(np.argsort(-scores[:, k])[:BEST].tolist()) for k in range(len(queries))]
    return float(np.mean([len(one & other) for one, other in itertools.combinations(best, 2)]))


def homes(field: client.Field, row_of: dict[int, int], lonlat: np.ndarray) -> np.ndarray:
    """Return the row of the cell that holds each location, -1 where there is none."""
    rowcol, on_grid = field.grid.locate(lonlat)
    number = rowcol[:, 0] * field.grid.shape[1] + rowcol[:, 1]
    found = zip(number, on_grid, strict=True)
    return np.array([row_of.get(int(n), -1) if ok else -1 for n, ok in found])


def ranks_of(
    field: client.Field,
    cells: np.ndarray,
    row_of: dict[int, int],
    queries: np.ndarray,
    lonlat: np.ndarray,
    hubs: np.ndarray,
) -> np.ndarray:
    """Return the rank of the cell that holds each location, 1 for the best of all cells."""
    home = homes(field, row_of, lonlat)
    kept = np.flatnonzero(home >= 0)
    ranks = []
    for first in range(0, len(kept), _BLOCK):
        part = kept[first : first + _BLOCK]
        scores = cells @ queries[part].T - hubs[:, None]
        own = scores[home[part], np.arange(len(part))]
        ranks.append(1 + (scores > own).sum(axis=0))
    return np.concatenate(ranks)


if __name__ == "__main__":
    main()
