"""Hand-made numbers: statistics of raster windows round the rows of a suite's tables.

They are what a field's vectors have to beat. `number_recipe` says which numbers, `window_numbers`
computes them at points, and `write_numbers.write_numbers` writes a folder for `unigeo probe`.
"""

from unigeo.producer.evaluation.handmade.number_recipe import (
    NumberRecipe,
    default_recipe,
    load_recipe,
)
from unigeo.producer.evaluation.handmade.write_numbers import write_numbers

__all__ = ["NumberRecipe", "default_recipe", "load_recipe", "write_numbers"]
