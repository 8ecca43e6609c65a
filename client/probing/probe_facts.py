"""What `probe.json` says of a saved probe, held to its form when it is read."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unigeo.client.probing.probe_folders import FACTS
from unigeo.client.probing.row_counts import Count
from unigeo.schemas.errors import ProbeError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
_KINDS = ("float64", "int64", "object")  # of columns; others are as pandas reads them


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True)  # keys of later versions are skipped


class SourceFacts(_Facts):
    """The model that made the vectors."""

    name: str
    sha256: str


class FactsTable(_Facts):
    """A table by columns; NaN is null, and infinity a text."""

    types: dict[str, str]
    columns: dict[str, list[str | float | int | None]]


class FittedFacts(_Facts):
    """One fitted model; its arrays are `models/<number>/...`."""

    target: str
    features: str
    penalty: float = Field(gt=0)
    nonconformity: float | Literal["inf"] | None = None
    """Of numbers: half-width of an interval where the difficulty is 1."""
    spread: int | None = None
    """Of numbers: which of `spreads`."""
    classes: list[str | bool | int | float] | None = None


class SpreadFacts(_Facts):
    """The spread of training vectors; its arrays are `spreads/<number>/...`."""

    penalty: float = Field(gt=0)
    count: int = Field(gt=0)


class ProbeFacts(_Facts):
    """What `probe.json` says."""

    format: int
    unigeo: str
    """Version that wrote it."""
    model: SourceFacts
    """Whose vectors the probe reads."""
    field: dict[str, Any]
    """On which it was fitted: region, CRS and cells."""
    modalities: dict[str, int] = Field(min_length=1)
    """Sampled, and the bands of each."""
    method: Literal["nearest", "bilinear", "bicubic"]
    level: float = Field(gt=0, lt=1)
    targets: dict[str, Count] = Field(min_length=1)
    """Predicted, and how many rows took part."""
    features: list[str] = Field(min_length=1)
    """Sets of vectors that were scored."""
    controls: list[str]
    splits: dict[str, Any]
    """Number of folds, seed, side and CRS of the blocks; the fold of each row is an array."""
    models: list[FittedFacts] = Field(min_length=1)
    spreads: list[SpreadFacts]
    scores: FactsTable
    fold_scores: FactsTable
    gains: FactsTable


def read_facts(place: Path) -> ProbeFacts:
    """Read `probe.json` in a folder.

    Raises:
        ProbeError: if there is none, or it is damaged or of a later format.
    """
    try:
        document = json.loads((place / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProbeError(f"{place} is no probe: it has no {FACTS}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ProbeError(f"cannot read the probe {place}: {error}") from error
    version = document.get("format") if isinstance(document, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise ProbeError(
            f"the probe {place} has format {version}; this unigeo reads up to {FORMAT}: upgrade it"
        )
    try:
        return ProbeFacts.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or FACTS
        raise ProbeError(
            f"the probe {place} is damaged: {key} in {FACTS}: {first['msg']}"
        ) from error


def table_of(frame: "pd.DataFrame") -> FactsTable:
    """A table of scores as JSON holds it."""
    columns = {
        str(name): [plain(value) for value in frame[name].tolist()] for name in frame.columns
    }
    types = {str(name): str(frame[name].dtype) for name in frame.columns}
    return FactsTable(types=types, columns=columns)


def frame_of(table: FactsTable) -> "pd.DataFrame":
    """The table of scores again."""
    import pandas as pd

    found = pd.DataFrame(table.columns)
    numbers = {name: kind for name, kind in table.types.items() if kind in _KINDS}
    return found.astype(numbers)


def plain(value: Any) -> Any:
    """A label or number as JSON holds it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)
