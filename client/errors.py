"""The errors and warnings of the client.

    UnigeoError
    ├── PointsError (ValueError)            points that cannot be read
    │   └── OutsideGridError                points off the grid where all must lie on it
    ├── RegionError (ValueError)            a region that is unknown, empty or malformed
    ├── LayoutError (ValueError)            a store that is no field of a readable layout
    │   └── ForeignError                    metadata that are cut off, or of something else
    ├── StoreError (OSError)                a store that cannot be reached, read or written
    │   └── DamagedError                    objects that are lost, cut off or replaced
    │       └── ForeignError                the same class: it is also a LayoutError
    ├── ProbeError (ValueError)             a probe that its data cannot support
    ├── WordsError (ValueError)             words that the field's concepts do not know
    └── MissingExtraError (ImportError)     an optional package that is not installed

    UserWarning
    ├── CacheWarning                        a cache on disk that cannot be used
    ├── DefaultFieldWarning                 a field that is read because none was named
    ├── PointsWarning                       points without a vector or a position
    ├── RegionWarning                       polygons without a vector or a shape
    ├── ProbeWarning                        scores of few data
    └── WordsWarning                        words that no concept has

The class in parentheses is a second base, so that `except ValueError` catches the error too. An
option that does not exist raises a plain ValueError.

>>> issubclass(ForeignError, DamagedError) and issubclass(ForeignError, LayoutError)
True
"""

from unigeo.schemas.errors import (
    CacheWarning,
    DamagedError,
    DefaultFieldWarning,
    ForeignError,
    LayoutError,
    MissingExtraError,
    OutsideGridError,
    PointsError,
    PointsWarning,
    ProbeError,
    ProbeWarning,
    RegionError,
    RegionWarning,
    StoreError,
    UnigeoError,
    WordsError,
    WordsWarning,
)

__all__ = [
    "CacheWarning",
    "DamagedError",
    "DefaultFieldWarning",
    "ForeignError",
    "LayoutError",
    "MissingExtraError",
    "OutsideGridError",
    "PointsError",
    "PointsWarning",
    "ProbeError",
    "ProbeWarning",
    "RegionError",
    "RegionWarning",
    "StoreError",
    "UnigeoError",
    "WordsError",
    "WordsWarning",
]
