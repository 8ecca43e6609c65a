"""The option `kernel` of a probe, and the names of models of a kernel.

With `kernel=True` each set of vectors, such as `joined`, gains a set `joined kernel`: the numbers
of `kernel_map`, on which a ridge or a logistic ridge is fitted as on any other set.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from unigeo.client.probing.feature_rows import FeatureRows
from unigeo.client.probing.kernel_map import KernelMap
from unigeo.client.probing.spatial_option import uses_position
from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import ProbeError

_SUFFIX = " kernel"


def with_kernel(features: str) -> str:
    """Name the kernel's numbers of a set of vectors."""
    return features + _SUFFIX


def without_kernel(features: str) -> str:
    """Return the name of the set of vectors that a set of numbers is, or is made from."""
    return features.removesuffix(_SUFFIX)


def uses_kernel(features: str) -> bool:
    """Return whether a name, without position, is that of a kernel's numbers."""
    return features.endswith(_SUFFIX)


def holds_locations(features: str) -> bool:
    """Return whether a model tells where some rows lie: by position, or by their vectors.

    A vector of the field is that of few cells, as a rule of one.
    """
    return uses_position(features) or uses_kernel(features)


def check_kernel(kernel: Any, features: Iterable[str]) -> None:
    """Refuse what the option cannot be.

    Args:
        kernel: option of `Field.probe`.
        features: names of the sets of features.

    Raises:
        ProbeError: if it is neither True nor False, or a set of features has the name of a kernel's
            numbers.
    """
    if not isinstance(kernel, bool):
        raise ProbeError(f"kernel must be True or False, not {short(kernel)}")
    for name in features if kernel else ():
        if uses_kernel(name):
            raise ProbeError(
                f"the features {short(name)} are named like the numbers of a kernel; rename them"
            )


def add_kernels(
    vectors: Mapping[str, FeatureRows],
    seed: int,
    progress: bool | None,
    without: Collection[str] = (),
) -> tuple[dict[str, FeatureRows], dict[str, KernelMap]]:
    """Add the kernel's numbers of each set of vectors after the sets.

    Args:
        vectors: sets of vectors by name.
        seed: seed of the landmarks.
        progress: show bars on stderr; by default where one takes more than about 2 seconds.
        without: names of sets that get none.

    Returns:
        All sets, and the maps of the new ones, by name.
    """
    maps = {
        with_kernel(name): KernelMap.of(values, seed)
        for name, values in vectors.items()
        if name not in without
    }
    sets = dict(vectors)
    for name, kernel in maps.items():
        sets[name] = kernel.rows(vectors[without_kernel(name)], progress)
    return sets, maps
