"""Scores of classes, of pictures or of pixels, from one confusion matrix."""

import numpy as np
import pandas as pd
from jaxtyping import Integer

IGNORED = 255
"""Label of pixels that are neither learned nor scored."""


def confusion_matrix(
    truth: Integer[np.ndarray, "*shape"], guess: Integer[np.ndarray, "*shape"], classes: int
) -> Integer[np.ndarray, "class class"]:
    """Count (true class, guessed class), leaving out what is `IGNORED`.

    Matrices of several parts add up; a score of the sum is one of all their pixels.
    """
    kept = truth != IGNORED
    pairs = truth[kept].astype(np.int64) * classes + guess[kept].astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(
    confusion: Integer[np.ndarray, "class class"], names: tuple[str, ...]
) -> pd.DataFrame:
    """Score each class: `class`, `pixels` (true ones), `iou`, `f1`; NaN if it occurs nowhere."""
    found = np.diag(confusion).astype(np.float64)
    true, guessed = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0: neither true nor guessed
        iou, f1 = found / (true + guessed - found), 2 * found / (true + guessed)
    return pd.DataFrame({"class": names, "pixels": true, "iou": iou, "f1": f1})


def overall_scores(confusion: Integer[np.ndarray, "class class"]) -> dict[str, float]:
    """`miou`, `accuracy`, `macro_f1`: means over the classes that occur, true or guessed."""
    scores = class_scores(confusion, tuple(map(str, range(len(confusion)))))
    return {
        "miou": float(scores["iou"].mean()),
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": float(scores["f1"].mean()),
    }
