"""The result of one public benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Scores of a frozen model under one public benchmark."""

    name: str
    """Name of the benchmark."""
    metrics: Mapping[str, float]
    """Scores over the full test set, the one that papers report first."""
    table: pd.DataFrame
    """Scores of each class, or of each target."""
    facts: Mapping[str, Any]
    """Numbers of samples, splits and settings."""
