"""Classification scores of images or pixels, from one confusion matrix."""

import numpy as np
import pandas as pd
from jaxtyping import Integer

IGNORED = 255
"""Label of pixels that are excluded from training and scores."""


def confusion_matrix(
    truth: Integer[np.ndarray, "*shape"], predicted: Integer[np.ndarray, "*shape"], classes: int
) -> Integer[np.ndarray, "class class"]:
    """Count pairs of true and predicted class, except where the true class is `IGNORED`.

    The matrices of parts of a data set can be added.
    """
    kept = truth != IGNORED
    # Numbering the pairs makes the matrix one histogram.
    pairs = truth[kept].astype(np.int64) * classes + predicted[kept].astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(
    confusion: Integer[np.ndarray, "class class"], names: tuple[str, ...]
) -> pd.DataFrame:
    """Compute `iou` and `f1` of each class; NaN for a class that is neither true nor predicted.

    Returns:
        One row per class: `class`, `pixels` (number of true ones), `iou`, `f1`.
    """
    right = np.diag(confusion).astype(np.float64)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN above
        iou, f1 = right / (true + predicted - right), 2 * right / (true + predicted)
    return pd.DataFrame({"class": names, "pixels": true, "iou": iou, "f1": f1})


def overall_scores(confusion: Integer[np.ndarray, "class class"]) -> dict[str, float]:
    """Compute `miou`, `accuracy` and `macro_f1`; means are over the classes that are not NaN."""
    scores = class_scores(confusion, tuple(map(str, range(len(confusion)))))
    return {
        "miou": float(scores["iou"].mean()),
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": float(scores["f1"].mean()),
    }
