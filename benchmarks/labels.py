"""Ridge against logistic ridge on a few labels of classes, in blocks that neither has seen.

    python -m benchmarks.labels FIELD TABLE COLUMN [--modality fused] [--classes 6] [--draws 6]

FIELD is a store, TABLE a file with longitude and latitude, COLUMN one of its columns: the
commonest classes are kept, or numbers are cut into as many parts. In each draw a third of the
blocks of 300 km is left out, and 12 to 300 labels are taken from the others. Printed are the share
of right classes, the Brier score and the log loss of `LabelRidge.shares` and of the logistic model
that `Field.probe` fits to classes.
"""

import argparse

import numpy as np
import pandas as pd

from unigeo import client
from unigeo.client.probing.label_ridge import BLOCK_M, fit_labels
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.metrics import log_loss
from unigeo.schemas.geo.grid import from_wgs84
from unigeo.schemas.tables.table_files import read_table

COUNTS = (12, 40, 120, 300)
MOST_ROWS, TESTED = 4000, 1000
FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("field", "table", "column"):
        parser.add_argument(name)
    parser.add_argument("--modality", default="fused")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--draws", type=int, default=6)
    options = parser.parse_args()
    field, table = client.open_field(options.field), read_table(options.table)
    table = table.dropna(subset=[options.column])
    column = table[options.column]
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > options.classes:
        table = table.assign(code=pd.qcut(column.rank(method="first"), options.classes, False))
    else:
        common = column.value_counts().index[: options.classes]
        table = table[column.isin(common)]
        table = table.assign(code=pd.factorize(table[options.column])[0])
    table = table.sample(min(len(table), MOST_ROWS), random_state=0)
    sampled = field.sample(table, options.modality, as_="numpy")[options.modality]
    known = ~np.isnan(sampled[:, 0])
    vectors, codes = sampled[known].astype(np.float64), table["code"].to_numpy(int)[known]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    xy = np.stack(from_wgs84(field.grid.crs).transform(*table[["lon", "lat"]].to_numpy()[known].T))
    _, blocks = np.unique(np.floor(xy / BLOCK_M), axis=1, return_inverse=True)
    rows = [
        (count, *row)
        for count in COUNTS
        for draw in range(options.draws)
        for row in compare(vectors, codes, blocks.ravel(), count, np.random.default_rng(draw))
    ]
    scores = pd.DataFrame(rows, columns=["labels", "model", "accuracy", "brier", "log_loss"])
    print(scores.groupby(["labels", "model"]).mean().unstack().round(3).to_string())


def compare(
    vectors: np.ndarray,
    codes: np.ndarray,
    blocks: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> list[tuple[str, float, float, float]]:
    """Score both models on one draw of labels; nothing if they are of one class."""
    order = rng.permutation(blocks.max() + 1)
    held = np.isin(blocks, order[: len(order) // 3])
    train = rng.choice(np.flatnonzero(~held), count, replace=False)
    classes, code = np.unique(codes[train], return_inverse=True)
    if len(classes) < 2:
        return []
    tested = np.flatnonzero(held & np.isin(codes, classes))
    tested = rng.choice(tested, min(TESTED, len(tested)), replace=False)
    truth = np.searchsorted(classes, codes[tested])
    ridge = fit_labels(vectors[train], np.eye(len(classes))[code])
    predicted, deviation = ridge.predict(vectors[tested]), ridge.deviation(vectors[tested])
    folds = blocks[train] % FOLDS
    logistic = LogisticProbe().fit(vectors[train], code, folds)
    models = {
        "ridge": ridge.shares(predicted, deviation),
        "logistic": logistic.predict(vectors[tested]),
    }
    return [
        (
            name,
            float(np.mean(shares.argmax(axis=1) == truth)),
            float(np.mean(((shares - np.eye(len(classes))[truth]) ** 2).sum(axis=1))),
            log_loss(truth, shares),
        )
        for name, shares in models.items()
    ]


if __name__ == "__main__":
    main()
