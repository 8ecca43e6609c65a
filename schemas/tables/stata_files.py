"""Stata's data files: read as an Arrow table with their labels, and written."""

import io
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from unigeo.schemas.errors import StoreError
from unigeo.schemas.tables.text_records import open_binary

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NAME = re.compile(r"[^\W\d]\w{0,31}")
"""Pattern of a name that Stata accepts for a variable."""
_START, _END = b"<stata_dta>", b"</stata_dta>"
"""First and last bytes of a file of Stata 13 or later."""
_EXACT = 2**53
"""Largest integer up to which Stata's widest number represents every integer."""
_MOST_NARROW = 32_767
"""Number of variables above which a file needs Stata/MP's format."""


@dataclass(frozen=True)
class StataLabels:
    """StataLabels of Stata's variables, which the values of the table do not hold."""

    variables: dict[str, str] = field(default_factory=dict)
    """Descriptions by variable."""
    values: dict[str, dict[Any, str]] = field(default_factory=dict)
    """Texts of the codes of a variable, by its name."""


def read_stata(source: Any) -> tuple["pa.Table", StataLabels]:
    """Read a data file: codes stay the numbers that they are, with their labels beside them.

    Raises:
        ValueError: if it is cut short, or of pandas.
    """
    import pandas as pd
    from pandas.io.stata import StataReader

    from unigeo.schemas.tables.geometry_columns import from_pandas

    _check_complete(source)
    with StataReader(source, convert_categoricals=False) as reader:
        frame = cast(Any, reader).read()
        variables = {name: text for name, text in reader.variable_labels().items() if text}
        values = reader.value_labels()
    with_gaps = [
        name
        for name, column in frame.items()
        if pd.api.types.is_float_dtype(column.dtype) and column.isna().any()
    ]
    for name in with_gaps:  # pandas reads integers with a missing value as floats
        given = frame[name].dropna()
        if len(given) and (given == given.round()).all() and given.abs().max() < _EXACT:
            frame[name] = frame[name].astype("Int64")
    # pandas names value labels by their set, which is the variable's name unless it was shared.
    own = {name: labels for name, labels in values.items() if name in frame}
    return from_pandas(frame), StataLabels(variables, own)


def _check_complete(source: Any) -> None:
    """Raise ValueError if a file has lost its end, which pandas does not look at."""
    with open_binary(source) as file:
        head = file.read(len(_START))
        file.seek(0, io.SEEK_END)
        file.seek(max(file.tell() - len(_END), 0))
        if head == _START and file.read() != _END:
            raise ValueError("it is cut short")
        file.seek(0)


def stata_file(table: "pa.Table", labels: StataLabels) -> bytes:
    """Write a table as a data file.

    Categories of text become codes with labels, as Stata has them.

    Raises:
        StoreError: if a name is none of Stata's, or an integer is beyond its exact range.
        ValueError: of pandas, for values that Stata does not have.
    """
    frame = _plain(table.to_pandas())
    wrong = [name for name in map(str, frame) if not _NAME.fullmatch(name)]
    if wrong:
        raise StoreError(
            f"Stata's names have at most 32 letters, digits and underscores, unlike {wrong[0]!r}"
            f"{f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''}; rename the columns, or "
            "choose another prefix"
        )
    file = io.BytesIO()
    with warnings.catch_warnings():
        # pandas says that wide integers become doubles, which `_plain` has made sure of.
        warnings.simplefilter("ignore")
        frame.to_stata(
            file,
            write_index=False,
            version=118 if len(frame.columns) <= _MOST_NARROW else 119,
            variable_labels={k: v for k, v in labels.variables.items() if k in frame},
            value_labels={k: v for k, v in labels.values.items() if k in frame},
        )
    return file.getvalue()


def _plain(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Convert columns to types that pandas writes to Stata without loss."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, column in frame.items():
        if pd.api.types.is_integer_dtype(column.dtype) and len(column):
            largest = max(abs(int(column.max())), abs(int(column.min())))
            if largest > _EXACT:
                raise StoreError(
                    f"column {name!r} holds the integer {largest}, which Stata cannot hold exactly;"
                    " write it as text"
                )
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.cat.remove_unused_categories()
        elif column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
            kinds = {type(one) for one in column if not (isinstance(one, float) and one != one)}
            if kinds - {type(None)} <= {bool}:  # truth values beside missing ones
                column = column.astype("boolean").astype("Int8")
            else:
                column = pd.Series(
                    ["" if one is None or one != one else str(one) for one in column],
                    column.index,
                    dtype=object,
                )
        elif column.dtype == bool:
            column = column.astype("int8")
        columns[str(name)] = column
    return pd.DataFrame(columns, index=frame.index)
