"""The contents of `probe.json`, the description of a saved probe, validated when it is read."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from unigeo.client.probing.probe_folders import FACTS
from unigeo.client.probing.row_counts import RowCounts
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.io.json_text import load_json

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 4
"""Latest version of the file's format."""
FORMAT_OF_KERNELS, FORMAT_OF_BOUNDS, FORMAT_OF_RESIDUALS, FORMAT_OF_PLAIN = 4, 3, 2, 1
"""Versions that are written: if models have kernels, else bounds, else residuals, which readers of
the versions before would skip, and if they have none."""
_RESTORED_TYPES = ("float64", "int64", "object")
"""Types that columns of a table get back when it is read; pandas infers others."""


class _FactsModel(BaseModel):
    model_config = ConfigDict(frozen=True)  # keys of later versions are skipped


class SourceFacts(_FactsModel):
    """The model that made the vectors."""

    name: str
    sha256: str


class FactsTable(_FactsModel):
    """A table by columns; NaN is null, and infinity is text."""

    types: dict[str, str]
    columns: dict[str, list[str | float | int | None]]


class FittedFacts(_FactsModel):
    """One fitted model, whose arrays are named `models/<number>/...`."""

    target: str
    features: str
    penalty: float = Field(gt=0)
    nonconformity: float | Literal["inf"] | None = Field(
        default=None,
        validation_alias=AliasChoices("strangeness", "nonconformity"),
        serialization_alias="strangeness",
    )
    """Half-width of an interval where the difficulty is 1, for a target of numbers; the file's key
    is older than the name."""
    spread: int | None = Field(default=None, ge=0)
    """Index in `spreads`, for a target of numbers."""
    classes: list[str | bool | int | float] | None = None
    """Labels in the order of the class numbers, for a target of classes."""
    bounds: tuple[float | None, float | None] | None = None
    """Least and largest value, for a target of numbers that has bounds."""
    kernel: int | None = Field(default=None, ge=0)
    """Index in `kernels`, for a model of a kernel's numbers."""


class SpreadFacts(_FactsModel):
    """The spread of training vectors, whose arrays are named `spreads/<number>/...`."""

    penalty: float = Field(gt=0)
    count: int | float = Field(gt=0)
    """Number of training vectors, or the sum of their weights."""


class KernelFacts(_FactsModel):
    """The kernel of a set of vectors, whose arrays are named `kernels/<number>/...`."""

    features: str
    """Name of the set of vectors."""
    width: float = Field(gt=0)
    """Squared distance at which the kernel is 1 / e."""


class ResidualFacts(_FactsModel):
    """The kriged residuals of a model, whose arrays are named `residuals/<model>/...`."""

    model: int = Field(ge=0)
    """Index of the model in `models`."""
    mean: float
    """Mean of the target at the known points."""
    share: float = Field(ge=0, le=1)
    """Share of the ridge that is kept."""
    range_m: float = Field(gt=0)
    """Range of the covariance."""
    nugget: float = Field(ge=0, le=1)
    """Nugget of the covariance."""


class ProbeFacts(_FactsModel):
    """All keys of `probe.json`."""

    format: int
    unigeo: str
    """Version of this package that wrote the file."""
    model: SourceFacts
    """Model that made the vectors."""
    field: dict[str, Any]
    """Field that the probe was fitted on: its region, CRS and resolution."""
    modalities: dict[str, int] = Field(min_length=1)
    """Number of bands of each modality that was sampled."""
    method: Literal["nearest", "bilinear", "bicubic"]
    level: float = Field(gt=0, lt=1)
    targets: dict[str, RowCounts] = Field(min_length=1)
    """Number of rows that took part, by target."""
    features: list[str] = Field(min_length=1)
    """Names of the sets of vectors that were scored."""
    controls: list[str]
    splits: dict[str, Any]
    """Number of folds, seed, and side and CRS of the blocks; each row's fold is in an array."""
    models: list[FittedFacts] = Field(min_length=1)
    spreads: list[SpreadFacts]
    spatial: Literal["residuals"] | None = None
    """Whether models with position were scored."""
    weighted: bool = False
    """Whether rows counted by weights of their own."""
    residuals: list[ResidualFacts] = []
    """Residuals of the models with position."""
    kernels: list[KernelFacts] = []
    """Kernels of the models that have one."""
    scores: FactsTable
    fold_scores: FactsTable
    gains: FactsTable


def read_facts(folder: Path) -> ProbeFacts:
    """Read `probe.json` of a folder.

    Raises:
        ProbeError: if the file is missing or damaged, or has a later format.
    """
    try:
        document = load_json((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProbeError(f"{folder} is no probe: it has no {FACTS}") from error
    except (OSError, ValueError) as error:
        raise ProbeError(f"cannot read the probe {folder}: {error}") from error
    version = document.get("format") if isinstance(document, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise ProbeError(
            f"the probe {folder} has format {version}; this unigeo reads up to {FORMAT}: upgrade it"
        )
    try:
        return ProbeFacts.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or FACTS
        raise ProbeError(
            f"the probe {folder} is damaged: {key} in {FACTS}: {first['msg']}"
        ) from error


def to_facts_table(frame: "pd.DataFrame") -> FactsTable:
    """Convert a table of scores to its form in JSON."""
    columns = {
        str(name): [to_json_value(value) for value in frame[name].tolist()]
        for name in frame.columns
    }
    types = {str(name): str(frame[name].dtype) for name in frame.columns}
    return FactsTable(types=types, columns=columns)


def to_dataframe(table: FactsTable) -> "pd.DataFrame":
    """Convert the form in JSON back to a table of scores."""
    import pandas as pd

    # Without its type a column of integers and NaN, or of NaN alone, would be read as another.
    restored = {name: kind for name, kind in table.types.items() if kind in _RESTORED_TYPES}
    return pd.DataFrame(table.columns).astype(restored)


def to_json_value(value: Any) -> Any:
    """Convert a label or number to a value that JSON has a form for."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)
