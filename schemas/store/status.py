"""Status of a cell: why it has or lacks a vector."""

from enum import IntEnum


class Status(IntEnum):
    """Codes of the `<modality>_status` arrays, uint8."""

    NOT_PRODUCED = 0
    """The shard is not written yet."""
    VALID = 1
    """The cell has a vector."""
    OUTSIDE_REGION = 2
    """The cell's centre lies outside the region, or off the globe."""
    NO_OBSERVATION = 3
    """Nothing was observed there, so nothing could be encoded."""
    FAILED = 4
    """Encoding failed; the run's report says why."""
    WATER = 5
    """The cell's centre lies on water."""

    @property
    def label(self) -> str:
        """Reason as tables and messages print it, such as "no observation"."""
        return self.name.lower().replace("_", " ")
