"""The metrics of a finished run, found by name."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.errors import ModelError

Metric = Callable[[UniGeoCLIP, Any, Observations, torch.device], Mapping[str, float]]
"""Function of model, tokenizer, observations and device; returns numbers by name, where larger is
better."""

SHORT_NAMES = {"world_probe": "unigeo.producer.evaluation.probe_metrics:world_probe"}
"""Metrics with a short name."""
SUITE_PREFIX = "suite:"
"""Prefix of a metric that probes the targets of a suite file."""


def metric(name: str) -> Metric:
    """Find a metric: one of `SHORT_NAMES`, a suite, or a function named `module:function`.

    `suite:FILE.toml` probes the coordinate vectors, the joined images and all vectors joined, and
    `suite:FILE.toml[coordinate]` only the named ones. Probing thousands of joined bands takes
    minutes.

    Raises:
        ModelError: if there is no such metric.
        ProbeError: if the suite cannot be read.
    """
    if name.startswith(SUITE_PREFIX):
        from unigeo.producer.evaluation.probe_metrics import FEATURE_SETS, load_suite, suite_probe

        file, _, selection = name.removeprefix(SUITE_PREFIX).removesuffix("]").partition("[")
        sets = tuple(part.strip() for part in selection.split(",")) if selection else FEATURE_SETS
        unknown = sorted(set(sets) - set(FEATURE_SETS))
        if unknown:
            raise ModelError(f"{name}: no set of features {unknown[0]!r}; there are {FEATURE_SETS}")
        # The suite is read now, so that its errors are raised before any training.
        return partial(suite_probe, load_suite(file), sets=sets)
    module, _, attribute = SHORT_NAMES.get(name, name).partition(":")
    try:
        function: Metric = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"there is no metric {name!r} ({error}); known are {', '.join(SHORT_NAMES)}, "
            "suite:FILE.toml, and functions written module:function"
        ) from error
    return function


def by_pair(
    retrieval: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Flatten retrieval matrices to recalls by ordered pair.

    >>> by_pair({"R@10": {"street": {"aerial": 0.5}}})
    {'R@10': {'street->aerial': 0.5}}
    """
    return {
        measure: {
            f"{query}->{gallery}": recall
            for query, row in matrix.items()
            for gallery, recall in row.items()
        }
        for measure, matrix in retrieval.items()
        if measure.startswith("R@")
    }
