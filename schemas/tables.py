"""Tables in files: CSV, Parquet, GeoParquet and GeoJSON, read and written whole or not at all."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import MissingExtraError, PointsError, StoreError

if TYPE_CHECKING:
    import pandas as pd

READ = (".csv", ".parquet", ".geojson", ".json")
WRITTEN = (".csv", ".parquet")


def read_table(path: str) -> Any:
    """Read a table; `-` is CSV on standard input. GeoJSON becomes a table with lon and lat.

    Raises:
        PointsError: if the file cannot be read, or its ending is unknown.
    """
    import pandas as pd

    kind = Path(path).suffix.lower()
    try:
        if path == "-":
            return pd.read_csv(sys.stdin)
        if kind == ".csv":
            return pd.read_csv(path)
        if kind == ".parquet":
            return _read_parquet(path)
        if kind in (".geojson", ".json"):
            return _read_geojson(path)
    except (OSError, ValueError) as error:
        if isinstance(error, PointsError | MissingExtraError):
            raise
        raise PointsError(f"cannot read the table {path}: {error}") from error
    raise PointsError(f"cannot read {path}: a table ends in one of {', '.join(READ)}")


def write_table(table: "pd.DataFrame", path: str | None) -> None:
    """Write a table; None or `-` is CSV on standard output. Written beside, then renamed.

    Raises:
        StoreError: if it cannot be written, or its ending is unknown.
    """
    if path is None or path == "-":
        table.to_csv(sys.stdout, index=False)
        return
    target = Path(path)
    if target.suffix.lower() not in WRITTEN:
        raise StoreError(f"cannot write {path}: a table ends in one of {', '.join(WRITTEN)}")
    part = target.with_name(target.name + ".partial")
    try:
        if target.suffix.lower() == ".csv":
            table.to_csv(part, index=False)
        else:
            _need_pyarrow()
            table.to_parquet(part, index=False)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"cannot write the table {path}: {error}") from error


def check_writable(path: str | None) -> None:
    """Refuse an output that cannot be written, before any work is done for it."""
    if path in (None, "-"):
        return
    target = Path(str(path))
    if target.suffix.lower() not in WRITTEN:
        raise StoreError(f"cannot write {path}: a table ends in one of {', '.join(WRITTEN)}")
    if not target.parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {target.parent}")


def _read_parquet(path: str) -> Any:
    import pandas as pd

    _need_pyarrow()
    import pyarrow.parquet as pq

    if b"geo" in (pq.read_schema(path).metadata or {}):
        try:
            import geopandas
        except ImportError as error:
            raise MissingExtraError(
                "GeoParquet needs geopandas: pip install 'unigeo[geo]'"
            ) from error
        return geopandas.read_parquet(path)
    return pd.read_parquet(path)


def _read_geojson(path: str) -> Any:
    import json

    import pandas as pd

    from unigeo.schemas.points import read_points

    document = json.loads(Path(path).read_text(encoding="utf-8"))
    lonlat = read_points(document).lonlat
    features = document.get("features", [document])
    if len(features) != len(lonlat):
        raise PointsError(f"{path} holds MultiPoint features; give one point per feature")
    table = pd.DataFrame([feature.get("properties") or {} for feature in features])
    return table.assign(lon=lonlat[:, 0], lat=lonlat[:, 1])


def _need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'unigeo[tables]'") from error
