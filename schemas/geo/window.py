"""A rectangle of a grid's cells, with which its arrays are indexed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A rectangle of cells, counted from a grid's north-west corner.

    >>> Window(10, 20, 4, 8).shifted(-10, -20)
    Window(row=0, col=0, height=4, width=8)
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array with."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def shifted(self, rows: int, cols: int) -> "Window":
        """Return the window moved by so many rows southward and columns eastward."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def offset_of(self, other: "Window") -> tuple[int, int]:
        """Return rows and columns from this window's corner to that of another one."""
        return other.row - self.row, other.col - self.col

    def clipped(self, other: "Window") -> "Window":
        """Return the part that lies in another window, which must overlap."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        end_row = min(self.row + self.height, other.row + other.height)
        end_col = min(self.col + self.width, other.col + other.width)
        return Window(row, col, end_row - row, end_col - col)

    def blocks(self, cells: int) -> tuple[range, range]:
        """Return rows and columns of the squares of `cells` x `cells` cells that it touches.

        >>> Window(250, 0, 10, 256).blocks(256)
        (range(0, 2), range(0, 1))
        """
        return (
            range(self.row // cells, -(-(self.row + self.height) // cells)),
            range(self.col // cells, -(-(self.col + self.width) // cells)),
        )
