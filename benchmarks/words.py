"""Measure what words find in a store: hubs, and the rank of locations that captions describe.

    python -m benchmarks.words STORE
    python -m benchmarks.words STORE --model MODEL --captions places_text.parquet --count 500

For each modality, by the plain cosine and from centres (those of the store, or the means of its
cells and phrases where it has none): how many of their 100 best cells two of 13 phrases share on
average; and, with a model folder and a table of `text`, `lon` and `lat`, the median rank of the
cell that holds a location among all cells, by its caption. `--held-out KM,SHARE,SEED` keeps the
locations of the spatial blocks that training held out. Captions need the producer.
"""

import argparse
import itertools
from typing import Any

import numpy as np
import pandas as pd

from unigeo import client
from unigeo.client.field.search import Concepts
from unigeo.schemas.errors import WordsError
from unigeo.schemas.store.concepts import centred
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status

PHRASES = (
    "forest", "a desert", "snow", "high mountains", "a city", "a beach", "a swamp", "a lake",
    "wheat fields", "a volcano", "downtown", "cotton fields", "a vineyard",
)  # fmt: skip
BEST = 100
_BLOCK = 64
"""Captions whose ranks are counted together."""


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
    queries = phrase_vectors(concepts)
    captions = caption_vectors(options) if options.model else None
    rows: list[dict[str, Any]] = []
    counts: dict[str, str] = {}
    for name in field.attributes.field_layout().model_width_modalities:
        cells, row_of = read_cells(field, name)
        centre = concepts.centres.get(name, cells.mean(axis=0, dtype=np.float64))
        mean = concepts.vectors.mean(axis=0, dtype=np.float64)
        # Captions are another kind of text than phrases, with a mean of their own.
        own_mean = mean if captions is None else captions[0].mean(axis=0, dtype=np.float64)
        for rule in ("plain", "centred"):
            is_plain = rule == "plain"
            seen = cells if is_plain else centred(cells, np.asarray(centre, np.float32))

            def query(vectors: np.ndarray, mean: np.ndarray, plain: bool = is_plain) -> Any:
                return vectors if plain else centred(vectors, mean.astype(np.float32))

            row = {"modality": name, "rule": rule, "overlap": overlap(seen, query(queries, mean))}
            if captions is not None:
                ranks = ranks_of(field, seen, row_of, query(captions[0], own_mean), captions[1])
                row |= {"median rank": float(np.median(ranks))}
                counts[name] = f"{len(ranks):,} captions among {len(cells):,} cells"
            rows.append(row)
    table = pd.DataFrame(rows).pivot(index="modality", columns="rule")
    shown = table[["overlap", "median rank"] if captions is not None else ["overlap"]]
    print(shown.to_string(float_format="%.1f"))
    for name, count in counts.items():
        print(f"{name}: {count}")


def phrase_vectors(concepts: Concepts) -> np.ndarray:
    """Return the vectors of the phrases; of others of the store where it lacks most of them."""
    found = []
    for phrase in PHRASES:
        try:
            found.append(concepts.find(phrase).vector)
        except WordsError:
            continue
    if len(found) == len(PHRASES):
        return np.stack(found)
    drawn = np.random.default_rng(0).choice(len(concepts.phrases), len(PHRASES), replace=False)
    print("Phrases:", "; ".join(concepts.phrases[k] for k in drawn))
    return concepts.vectors[drawn]


def caption_vectors(options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Encode captions; return their vectors and their locations."""
    import torch

    from unigeo.producer.encoders.model import load_model
    from unigeo.producer.encoders.text import tokenize
    from unigeo.producer.training.holdout import held_out

    table = pd.read_parquet(options.captions)
    if options.held_out:
        block_km, share, seed = options.held_out.split(",")
        lonlat = table[["lon", "lat"]].to_numpy()
        table = table[held_out(lonlat, float(block_km), float(share), int(seed))]
    table = table.sample(min(options.count, len(table)), random_state=0)
    model, tokenizer = load_model(options.model)
    if tokenizer is None:
        raise SystemExit(f"{options.model} has no text encoder")
    modality, texts, vectors = model.settings.text_modalities[0], table["text"].tolist(), []
    with torch.inference_mode():
        for first in range(0, len(texts), _BLOCK):
            tokens = tokenize(tokenizer, texts[first : first + _BLOCK])
            vectors.append(model.encode(modality, tokens).float().cpu().numpy())
    return np.concatenate(vectors), table[["lon", "lat"]].to_numpy()


def read_cells(field: client.Field, name: str) -> tuple[np.ndarray, dict[int, int]]:
    """Return all unit vectors of a modality, and the row of each cell's by its number."""
    parts, numbers = [], []
    for piece in field.iter_region(None, name):
        row, col = np.nonzero(piece.status[name] == Status.VALID)
        parts.append(dequantize(piece.stored[name][row, col]))
        numbers.append((row + piece.window.row) * field.grid.shape[1] + col + piece.window.col)
    return np.concatenate(parts), {n: k for k, n in enumerate(np.concatenate(numbers).tolist())}


def overlap(cells: np.ndarray, queries: np.ndarray) -> float:
    """Return how many of their best cells two queries share on average."""
    scores = cells @ queries.T
    best = [set(np.argsort(-scores[:, k])[:BEST].tolist()) for k in range(len(queries))]
    return float(np.mean([len(one & other) for one, other in itertools.combinations(best, 2)]))


def ranks_of(
    field: client.Field,
    cells: np.ndarray,
    row_of: dict[int, int],
    queries: np.ndarray,
    lonlat: np.ndarray,
) -> np.ndarray:
    """Return the rank of the cell that holds each location, 1 for the best of all cells."""
    rowcol, on_grid = field.grid.locate(lonlat)
    number = rowcol[:, 0] * field.grid.shape[1] + rowcol[:, 1]
    home = np.array(
        [row_of.get(int(n), -1) if ok else -1 for n, ok in zip(number, on_grid, strict=True)]
    )
    kept = np.flatnonzero(home >= 0)
    ranks = []
    for first in range(0, len(kept), _BLOCK):
        part = kept[first : first + _BLOCK]
        scores = cells @ queries[part].T
        own = scores[home[part], np.arange(len(part))]
        ranks.append(1 + (scores > own).sum(axis=0))
    return np.concatenate(ranks)


if __name__ == "__main__":
    main()
