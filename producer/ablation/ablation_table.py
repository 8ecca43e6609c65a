"""The ablation table: a base training, and rows that change its settings, grouped by question.

name = "depth"
metrics = ["world_probe"]          # in addition to retrieval; a name, or module:function
shown = ["R@10", "blocked joined"] # in the report; its CSV files have all measures

[base]
preset = "tiny"
seeds = 5
training.steps = 300               # keys as for --set

[[question]]
name = "Depth of the coordinate encoder"

[[question.row]]
name = "6 blocks"
model.coordinate.depth = 6
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unigeo.producer.pipeline.overrides import to_text
from unigeo.schemas.errors import ModelError
from unigeo.schemas.io.toml_files import check_keys, read_toml

BASE = "base"
_SETTINGS = ("model", "training")
_SEEDS = ("model.seed", "training.seed")


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One variant of the training."""

    question: str
    """Question that the row belongs to, empty for the base."""
    name: str
    changes: Mapping[str, str]
    """Settings that differ from the base: values as text, by the keys of `--set`."""

    @property
    def title(self) -> str:
        """Question and name, unique in the table."""
        return f"{self.question}: {self.name}" if self.question else self.name


@dataclass(frozen=True, kw_only=True)
class AblationTable:
    """A base training, its variants, and the metrics by which they are compared."""

    name: str
    path: Path
    preset: str
    seeds: int
    """Number of runs of each row, with seeds from 0."""
    changes: Mapping[str, str]
    """Settings in which the base, and so every row, differs from the preset."""
    rows: tuple[AblationRow, ...]
    """The rows, the base first."""
    metrics: tuple[str, ...]
    """Names of the metrics in addition to retrieval, see `run_metrics.metric`."""
    shown: tuple[str, ...] = ()
    """Measures in the report's tables and figure, in this order; all of them if empty."""
    observations: Path | None
    """File that describes the observations; the embedded world if None."""
    data: Path | None
    """Folder of the observations."""

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions, in the order of the table."""
        return tuple(dict.fromkeys(row.question for row in self.rows if row.question))

    def select(self, names: Sequence[str]) -> "AblationTable":
        """Return the table with the base and the rows of the named questions, or of all if none.

        A name may omit the part of a question in brackets.

        Raises:
            ModelError: if there is no such question.
        """
        wanted = {""}
        for name in names:
            matching = [q for q in self.questions if q == name or q.startswith(f"{name} (")]
            if not matching:
                known = ", ".join(map(repr, self.questions))
                raise ModelError(f"{self.path} has no question {name!r}; it has {known}")
            wanted.update(matching)
        if not names:
            return self
        return replace(self, rows=tuple(row for row in self.rows if row.question in wanted))


def read_table(path: Path | str) -> AblationTable:
    """Read a table from a TOML file.

    Raises:
        ModelError: if the file cannot be read, or a key is unknown or malformed.
    """
    path = Path(path)
    document = read_toml(path, "the ablation table", ModelError)
    known = {"name": str, "metrics": list, "shown": list, "base": dict, "question": list}
    check_keys(document, known, f"{path}", ModelError)
    base = document.get("base", {})
    where = f"{path}, [base]"
    named = {"preset": str, "seeds": int, "observations": str, "data": str}
    check_keys(base, named | dict.fromkeys(_SETTINGS, dict), where, ModelError)
    seeds = base.get("seeds", 5)
    if seeds < 1:
        raise ModelError(f"{where}: seeds must be at least 1, not {seeds}")
    rows = [
        AblationRow(question="", name=BASE, changes={}),
        *_rows(document.get("question", []), path),
    ]
    return AblationTable(
        name=document.get("name", path.stem),
        path=path,
        preset=base.get("preset", "tiny"),
        seeds=seeds,
        changes=_changes(base, where),
        rows=tuple(rows),
        metrics=tuple(map(str, document.get("metrics", []))),
        shown=tuple(map(str, document.get("shown", []))),
        observations=_relative_to(path, base.get("observations")),
        data=_relative_to(path, base.get("data")),
    )


def _rows(questions: Iterable[Any], path: Path) -> list[AblationRow]:
    rows: list[AblationRow] = []
    for number, question in enumerate(questions, start=1):
        where = f"{path}, [[question]] number {number}"
        check_keys(question, {"name": str, "row": list}, where, ModelError, ("name", "row"))
        for row_number, row in enumerate(question["row"], start=1):
            row_where = f"{where} ({question['name']}), row {row_number}"
            kinds = {"name": str} | dict.fromkeys(_SETTINGS, dict)
            check_keys(row, kinds, row_where, ModelError, ("name",))
            changes = _changes(row, row_where)
            rows.append(AblationRow(question=question["name"], name=row["name"], changes=changes))
    titles = [row.title for row in rows]
    duplicates = sorted({title for title in titles if titles.count(title) > 1})
    if duplicates:
        raise ModelError(
            f"{path} has two rows {duplicates[0]!r}; rows of a question need their own names"
        )
    return rows


def _changes(values: Mapping[str, Any], where: str) -> dict[str, str]:
    """Flatten nested settings to dotted keys and values as text; TOML parses the keys as tables."""
    changes: dict[str, str] = {}

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(f"{prefix}.{key}" if prefix else key, inner)
        else:
            changes[prefix] = to_text(value)

    flatten("", {name: values[name] for name in _SETTINGS if name in values})
    seeded = [key for key in _SEEDS if key in changes]
    if seeded:
        raise ModelError(f"{where}: {seeded[0]} is drawn from the table's seeds; leave it out")
    return changes


def _relative_to(path: Path, name: str | None) -> Path | None:
    return None if name is None else path.parent / name
