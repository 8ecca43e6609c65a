"""Excel workbooks: the first sheet read as an Arrow table, and a table written as a sheet."""

import datetime
import io
import math
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import MissingExtraError, StoreError
from unigeo.schemas.tables.arrow_values import to_arrow_array
from unigeo.schemas.tables.rows import first_duplicate

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS, MOST_COLUMNS = 2**20, 2**14
"""Sizes of a sheet, its header included."""
_EXACT_DIGITS = 15
"""Digits that Excel keeps of a number; longer integers are written as text."""


def read_workbook(source: Any) -> tuple["pa.Table", str]:
    """Read the first sheet: a header, and cells as they are stored.

    Numbers, text, dates and truth values keep their type; a column of several is text.

    Returns:
        The table, and a remark for the user if the workbook has further sheets.

    Raises:
        MissingExtraError: if no reader of workbooks is installed.
        ValueError: if it cannot be read, or a column with values has no name.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        with pd.ExcelFile(source) as book:
            names = list(map(str, book.sheet_names))
            sheet = pd.read_excel(book, header=None, dtype=object, na_filter=False)
    except ImportError as error:
        message = f"Excel needs openpyxl: pip install 'unigeo[tables]' ({error})"
        raise MissingExtraError(message) from error
    except Exception as error:  # each engine has errors of its own: of zip, XML, missing parts
        raise ValueError(f"{error or type(error).__name__}") from error
    rows = [[None if _is_empty(one) else one for one in row] for row in sheet.to_numpy().tolist()]
    while rows and not any(one is not None for one in rows[0]):
        del rows[0]
    if not rows:
        raise ValueError("its first sheet is empty")
    columns = list(map(list, zip(*rows, strict=True)))
    columns = [one for one in columns if any(value is not None for value in one)]
    header = ["" if column[0] is None else str(column[0]) for column in columns]
    if "" in header:
        raise ValueError(f"column {header.index('') + 1} of sheet {names[0]!r} has no name")
    if (twice := first_duplicate(header)) is not None:
        raise ValueError(f"several columns of sheet {names[0]!r} are named {twice!r}; rename them")
    table = pa.table([to_arrow_array(column[1:]) for column in columns], header)
    note = f"sheet {names[0]!r} is read, the first of {len(names)}" if len(names) > 1 else ""
    return table, note


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def workbook(table: "pa.Table") -> bytes:
    """Write a table as a workbook of one sheet.

    Text stays text, also where it looks like a number or a formula; times with a zone are text in
    ISO 8601.

    Raises:
        MissingExtraError: if openpyxl is not installed.
        StoreError: if the table is larger than a sheet.
    """
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ImportError as error:
        message = "Excel needs openpyxl: pip install 'unigeo[tables]'"
        raise MissingExtraError(message) from error
    if table.num_rows >= MOST_ROWS or table.num_columns > MOST_COLUMNS:
        raise StoreError(
            f"a sheet of Excel has at most {MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns, and "
            f"this table {table.num_rows + 1:,} and {table.num_columns:,}; write Parquet"
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")

    def cell(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = WriteOnlyCell(sheet, value)
        text.data_type = "s"  # openpyxl takes text that begins with = for a formula
        return text

    sheet.append(list(map(cell, table.schema.names)))
    for row in zip(*map(_cells, table.columns), strict=True):
        sheet.append(list(map(cell, row)))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _cells(column: Any) -> list[Any]:
    """Convert a column to values that a sheet holds; other values become text."""
    from unigeo.schemas.tables.arrow_values import format_json_values

    kinds = (bool, int, float, str, datetime.datetime, datetime.date, type(None))
    plain = column.to_pylist()
    formatted = format_json_values(column)  # floats of float32 with their own digits
    return [_cell(one, text) if isinstance(one, kinds) else _cell(text, str(text))
            for one, text in zip(plain, formatted, strict=True)]  # fmt: skip


def _cell(value: Any, formatted: Any) -> Any:
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    is_long = isinstance(formatted, int) and len(str(abs(formatted))) > _EXACT_DIGITS
    return str(formatted) if is_long or isinstance(formatted, list | dict) else formatted
