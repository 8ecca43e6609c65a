"""What marks a test that needs a GPU: it skips where there is none, and its libraries may warn."""

from typing import Any

import pytest
import torch

MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # torch and Triton warn of their own next versions where they compile; unigeo may not warn.
    pytest.mark.filterwarnings("error:::unigeo"),
    pytest.mark.filterwarnings("default"),
]


def on_gpu(test: Any) -> Any:
    """Mark one test."""
    for mark in MARKS:
        test = mark(test)
    return test
