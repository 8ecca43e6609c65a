"""Open observations of the contiguous United States, small enough to come with the producer.

`datasheet.md` says what they are, where they come from and what was done to them.
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
"""Folder of the files themselves: an editable install may consist of symbolic links to them."""
DESCRIPTION = FOLDER / "observations.toml"
"""Description of the observations, whose files lie beside it."""
NAME = "open CONUS"
"""Name that the description gives them."""
EXTENT = (-125.5, 24.0, -66.0, 50.0)
"""West, south, east and north end of what the rasters cover, degrees."""
