"""What is measured of a finished run."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.errors import ModelError

Metric = Callable[[UniGeoCLIP, Any, Observations, torch.device], Mapping[str, float]]
"""From model, tokenizer, observations and device to numbers by name, larger ones better."""

KNOWN = {"world_probe": "unigeo.producer.evaluation.probe_metrics:world_probe"}
"""Metrics that have a short name."""
SUITE = "suite:"
"""Before the file of a suite, whose targets are probed."""


def metric(name: str) -> Metric:
    """Find a metric: one of `KNOWN`, a suite, or a function named `module:function`.

    `suite:FILE.toml` probes the coordinate vectors, the images joined and all joined, and
    `suite:FILE.toml[coordinate]` some of these; thousands of joined numbers take minutes to probe.

    Raises:
        ModelError: if there is none.
        ProbeError: if the suite cannot be read.
    """
    if name.startswith(SUITE):
        from unigeo.producer.evaluation.probe_metrics import FEATURE_SETS, load_suite, suite_probe

        file, _, listed = name.removeprefix(SUITE).removesuffix("]").partition("[")
        sets = tuple(part.strip() for part in listed.split(",")) if listed else FEATURE_SETS
        unknown = sorted(set(sets) - set(FEATURE_SETS))
        if unknown:
            raise ModelError(f"{name}: no set of features {unknown[0]!r}; there are {FEATURE_SETS}")
        # Read now: what is wrong with it is said before any training.
        return partial(suite_probe, load_suite(file), sets=sets)
    module, _, function = KNOWN.get(name, name).partition(":")
    try:
        found: Metric = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"there is no metric {name!r} ({error}); known are {', '.join(KNOWN)}, "
            "suite:FILE.toml, and functions written module:function"
        ) from error
    return found


def by_pair(
    retrieval: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Write a retrieval matrix by ordered pair.

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
