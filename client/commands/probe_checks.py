"""Checks of `unigeo probe` before a vector is read: options agree, outputs can be written."""

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from unigeo.client.commands.options import check_output_path, field_arguments

if TYPE_CHECKING:
    from unigeo.client.field.field import Field
    from unigeo.client.probing.probe import Probe
    from unigeo.schemas.tables.part_readers import TableParts

MAP_ENDINGS = (".tif", ".tiff", ".zarr")
_FIT_ONLY = ("block_km", "task", "groups", "controls", "weights", "bounds", "save")
"""Options that need a TABLE to fit a probe to."""
_SAMPLED = ("all_covariates", "covariates", "modalities", "method")
"""Options that say what is read of the field."""
_FIXED_BY_PROBE = ("table", *_FIT_ONLY, *_SAMPLED, "folds", "seed", "level", "spatial", "kernel")
"""Options whose values are stored in a saved probe, so that --load excludes them."""
_NOT_WITH_SUITE = (
    "table", "targets", "load", "lon", "lat", "position", "crs", *_FIT_ONLY, "level",
    "prefix", "predict", "map_", "overwrite", "without_locations",
)  # fmt: skip
"""Parameters that --suite excludes."""
_SUITE_ONLY = ("numbers", "foldings")
"""Options that need a --suite."""
_GOES_WITH = {
    "overwrite": ("map_", "save"),
    "features": ("predict", "map_", "save"),
    "prefix": ("predict",),
    "without_locations": ("save",),
}
"""Options that do nothing without one of others."""


def check_source(
    table: str | None,
    targets: tuple[str, ...],
    load: str | None,
    data: str | None,
    options: dict[str, Any],
) -> None:
    """Check that either a table with targets or a saved probe is given, and no option of a suite.

    Raises:
        UsageError: if not, if a saved probe is given with options that it determines, or if an
            option would do nothing.
    """
    if load is not None and (given := _options_given(_FIXED_BY_PROBE)):
        raise click.UsageError(
            f"a probe that is loaded is fitted already: leave out {' and '.join(given)}"
        )
    if given := _options_given(_SUITE_ONLY):
        raise click.UsageError(f"{' and '.join(given)} goes with a --suite")
    if load is not None and targets and options["map_"] is None:
        raise click.UsageError("of a probe that is loaded, --target names what --map draws")
    for name, others in _GOES_WITH.items():
        if (given := _options_given((name,))) and not _options_given(others):
            written = " or ".join(f"--{other.rstrip('_')}" for other in others)
            note = "; tables are always replaced" if name == "overwrite" else ""
            raise click.UsageError(f"{given[0]} goes with {written}{note}")
    if (load is None and (table is None or not targets)) or data is not None:
        raise click.UsageError(
            "name a TABLE with --target columns, a probe to --load, or a --suite with its --data"
        )


def check_suite_options(data: str | None) -> str:
    """Check that a suite comes with its folder of tables, and without what it names itself.

    Returns:
        The folder.

    Raises:
        UsageError: if not.
    """
    given = _options_given(_NOT_WITH_SUITE)
    if data is None or given:
        raise click.UsageError(
            "a --suite needs --data, names tables, targets, coordinates and blocks itself, "
            f"and predicts nothing{': leave out ' if given else ''}{' and '.join(given)}"
        )
    return data


def _options_given(names: tuple[str, ...]) -> list[str]:
    """Return which of the named parameters are on the command line, in their written form."""
    context = click.get_current_context()
    defaults = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    return [
        parameter.opts[0] if isinstance(parameter, click.Option) else str(parameter.name).upper()
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) not in defaults
    ]


def check_report(out: str | None) -> None:
    """Check that the report of --out can be written."""
    from unigeo.schemas.tables.table_files import check_writable

    if out is not None and out.endswith(".md"):
        check_output_path(out, (".md",))
    elif out is not None:
        check_writable(out)


def check_outputs(targets: tuple[str, ...], options: dict[str, Any]) -> None:
    """Check that predictions, map and probe can be written, before any work is done for them."""
    from unigeo.client.probing.probe_folders import check_probe_path
    from unigeo.schemas.tables.table_files import check_writable

    if options["predict"] is not None:
        check_writable(options["predict"][1])
    if options["map_"] is not None:
        if len(targets) > 1:
            raise click.UsageError(
                f"--map draws one --target, and there are {len(targets)}: {', '.join(targets)}. "
                "Name one; to fit all and draw each, --save the probe and --load it with --target"
            )
        _check_map_path(options["map_"][1], options["overwrite"])
    if options["save"] is not None:
        check_probe_path(options["save"], options["overwrite"])


def check_targets(targets: tuple[str, ...], loaded: "Probe") -> None:
    """Check that a saved probe has the targets that are named.

    Raises:
        ProbeError: if it does not.
    """
    from unigeo.schemas.errors import ProbeError

    unknown = [name for name in targets if name not in loaded.targets]
    if unknown:
        raise ProbeError(
            f"the probe has no target {unknown[0]!r}; it has {', '.join(loaded.targets)}"
        )


def _check_map_path(out: str, overwrite: bool) -> None:
    from unigeo.client.areas.geotiff_files import check_geotiff_path
    from unigeo.client.probing.map_files import check_zarr_path
    from unigeo.schemas.errors import StoreError

    if out.lower().endswith(".zarr"):
        check_zarr_path(out, overwrite)
    elif out.lower().endswith(MAP_ENDINGS):
        check_geotiff_path(out, overwrite)
    else:
        raise StoreError(f"cannot write {out}: a map's name must end in {' or '.join(MAP_ENDINGS)}")


def check_predictions(
    field: "Field", new: "TableParts | None", options: dict[str, Any], loaded: "Probe | None"
) -> None:
    """Check that the points, features and region can be predicted, before anything is fitted."""
    from unigeo.client.commands.table_parts import read_part_points
    from unigeo.client.probing.kernel_option import with_kernel
    from unigeo.client.probing.prediction_map import region_outlines
    from unigeo.client.probing.sampled_features import feature_set_names
    from unigeo.client.probing.spatial_option import with_position

    known = feature_set_names(field.chosen(options["modalities"] or field.default_modalities))
    if options["kernel"]:
        known += tuple(map(with_kernel, known))
    if options["spatial"] is not None:
        known += tuple(map(with_position, known))
    if loaded is not None:
        known = loaded.fitted
    check_features(known, options["features"])
    if options["map_"] is not None:
        region_outlines(field, mapped_region(options))
    for rows in new or ():
        read_part_points(rows, point_arguments(options))


def check_features(known: tuple[str, ...], chosen: str | None, note: str = "") -> None:
    """Check that a probe has the set of features that is named, if one is.

    Args:
        known: names of the sets.
        chosen: the name; None if none is given.
        note: put at the end of the message of the error.
    """
    from unigeo.schemas.errors import ProbeError

    if chosen is not None and chosen not in known:
        raise ProbeError(f"the probe has no features {chosen!r}; it has {', '.join(known)}{note}")


def point_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with which the points of the table to predict are read and sampled."""
    names = ("lon", "lat", "position", "crs", "modalities")
    return field_arguments({key: options[key] for key in names}) | {"missing": "nan"}


def mapped_region(options: dict[str, Any]) -> Any:
    """Return the region of --map; None for the whole field."""
    region = options["map_"][0]
    return None if region == "all" else region
