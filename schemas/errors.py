"""Every error unigeo raises on purpose: its message says what happened, where, and what to do."""


class UnigeoError(Exception):
    """Something a user can mend; commands print the message and exit with code 2.

    Of a `DamagedError` they exit with code 1, as `verify` does where it finds damage.
    """


class PointsError(UnigeoError, ValueError):
    """Points that cannot be read: an unknown form, NaN, swapped axes, an unknown CRS."""


class PointsWarning(UserWarning):
    """Points most of which have no vector, or of which some have no position."""

    def __init__(self, message: str, cause: str | None = None) -> None:
        """Take the message, and the part of it that says why most points have no vector."""
        super().__init__(message)
        self.cause = cause


class OutsideGridError(PointsError):
    """Points that lie off the grid where all must lie on it."""


class RegionError(UnigeoError, ValueError):
    """A region that is unknown, empty or malformed."""


class RegionWarning(UserWarning):
    """Polygons most of which have no vector, or of which some have no shape."""


class LayoutError(UnigeoError, ValueError):
    """A store that is not a unigeo field of a layout this version reads."""


class StoreError(UnigeoError, OSError):
    """A store that cannot be reached, read or written."""


class CacheWarning(UserWarning):
    """A cache on disk that cannot be used."""


class DefaultFieldWarning(UserWarning):
    """A field that is read because none was named."""


class DamagedError(StoreError):
    """A store whose objects are lost, cut off, or no longer those that were opened."""


class ForeignError(DamagedError, LayoutError):
    """Metadata that are cut off, or are not those of a unigeo field."""


class ObservationsError(UnigeoError, ValueError):
    """Observations that are missing, unreadable or described wrongly."""


class ModelError(UnigeoError, ValueError):
    """A model folder that is missing, damaged or of another kind."""


class ProbeError(UnigeoError, ValueError):
    """A probe that its data cannot support."""


class ProbeWarning(UserWarning):
    """A probe with little data: its scores are correct and less certain than they look."""


class WordsError(UnigeoError, ValueError):
    """Words that a field's concepts do not know."""


class WordsWarning(UserWarning):
    """A text some of whose words no concept has."""


class MissingExtraError(UnigeoError, ImportError):
    """An optional package is needed and not installed."""
