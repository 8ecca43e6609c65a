"""What a benchmark says of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a frozen model under one public benchmark."""

    name: str
    """Of the benchmark."""
    metrics: Mapping[str, float]
    """Scores over the whole test set; the one that papers print comes first."""
    table: pd.DataFrame
    """Scores of each class, or of each target."""
    facts: Mapping[str, Any]
    """How it was done: samples, splits, settings."""
