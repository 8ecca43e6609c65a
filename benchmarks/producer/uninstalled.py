"""Imported first: takes the repository's root for the package `unigeo` where it is not installed.

The folders of the root are the package's, as pyproject.toml says.
"""

import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]

if importlib.util.find_spec("unigeo") is None:
    package = types.ModuleType("unigeo")
    package.__path__ = [str(ROOT)]
    sys.modules["unigeo"] = package

if importlib.util.find_spec("jaxtyping") is None:

    class _Shaped:
        """Stands for `Float[Tensor, "row col"]` and its like, which say nothing at run time."""

        def __class_getitem__(cls, shape: object) -> object:
            return object

    unchecked = types.ModuleType("jaxtyping")
    for name in ("Bool", "Float", "Float32", "Float64", "Int", "Int8", "Int64", "Shaped", "UInt8"):
        setattr(unchecked, name, _Shaped)
    unchecked.__spec__ = importlib.machinery.ModuleSpec("jaxtyping", None)
    sys.modules["jaxtyping"] = unchecked
