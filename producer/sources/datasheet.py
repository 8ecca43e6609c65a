"""The datasheet of a set: contents, sources and licences; a map of its locations, and examples."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from unigeo.producer.observations.observation_set.set_observations import SetObservations
from unigeo.producer.sources.set_counts import ELSEWHERE

COLOURS = {
    "train": "#4477aa", "spatial": "#ee6677", "region": "#228833", "temporal": "#ccbb44",
}  # fmt: skip
"""Colour of each split on the map."""
EXAMPLES = 8
"""Number of locations drawn as examples."""
VOID = "#cccccc"
"""Colour of pixels of a surface model that were not observed."""


def datasheet(about: dict[str, Any]) -> str:
    """Write the datasheet as Markdown, from the contents of `set.json`."""
    counts = about["counts"]
    lines = [
        f"# {about['name']}",
        "",
        f"Licence: {about['licence']}. {about['citation']}".strip(),
        "",
        f"{counts['places']:,} places. {about['border']:,} more lay at the border of a split and "
        "were not observed.",
        "",
        "| part | places |",
        "| --- | --- |",
        *[f"| {name} | {number:,} |" for name, number in counts["splits"].items()],
        "",
        "![coverage](coverage.png)",
        "",
        "![examples](examples.png)",
        "",
        "## Modalities",
        "",
        "| modality | observed | years | bytes |",
        "| --- | --- | --- | --- |",
    ]
    modalities = about["modalities"][1:]
    for name in modalities:
        of_modality = counts[name]
        years = ", ".join(f"{year}: {number:,}" for year, number in of_modality["years"].items())
        lines.append(
            f"| {name} | {of_modality['observed']:,} | {years} | {of_modality.get('bytes', 0):,} |"
        )
    lines += ["", "## By state or area, modality and year", ""]
    if list(counts["areas"]) == [ELSEWHERE]:
        lines.append("No place lies in one of the areas counted by; name others in `areas`.")
    else:
        lines += [
            "| area | places | modality | observed | years |",
            "| --- | --- | --- | --- | --- |",
        ]
        for area, locations in counts["areas"].items():
            for name in modalities:
                by_year = counts[name]["areas"].get(area, {})
                years = ", ".join(f"{year}: {number:,}" for year, number in by_year.items())
                total = sum(by_year.values())
                lines.append(f"| {area} | {locations:,} | {name} | {total:,} | {years} |")
    lines += [
        "",
        "## Missing",
        "",
        "| modality | what | reason | number |",
        "| --- | --- | --- | --- |",
    ]
    for name in modalities:
        missing, unusable = counts[name]["reasons"].items(), about["unusable"][name].items()
        lines += [f"| {name} | places | {reason} | {n:,} |" for reason, n in missing]
        lines += [f"| {name} | images | {reason} | {n:,} |" for reason, n in unusable]
    lines += ["", "## Sources and licences", ""]
    for name in modalities:
        source = about["settings"][name]
        licences = ", ".join(f"{k} ({n:,})" for k, n in counts[name]["licences"].items())
        lines.append(f"* **{name}**: {source['kind']}, {_address(source)}. Licences: {licences}.")
        if source.get("credit"):
            lines.append(f"  Credit: {source['credit']}.")
        if name == "dsm":
            ground = {
                "percentile": f"percentile {source['percentile']:g} of the patch",
                "terrain": "the terrain model below each pixel",
                "none": "the datum",
            }[source["ground"]]
            lines.append(
                f"  Heights in metres above {ground}; source unit {source['units']}, vertical "
                f"datum {source['datum'] or 'not stated'}; voids are masked."
            )
        if name == "text":
            lines.append(f"  Names, numbers and coordinates: {source['names']}.")
            if source.get("caption"):
                lines.append(f"  The aerial image is described by {source['caption']}.")
        if name == "street":
            lines.append("  The credit and licence of each photograph are in `locations.parquet`.")
    lines += [
        "",
        "## Hashes",
        "",
        f"* plan `{about['plan']}`",
        f"* index `{about['index_sha256']}`",
    ]
    lines += [f"* shard {k:06d} `{s['sha256']}`" for k, s in enumerate(about["shards"])]
    return "\n".join(lines) + "\n"


def _address(source: dict[str, Any]) -> str:
    """Describe where the data of a source come from."""
    files = source.get("files")
    many = len(files) if isinstance(files, list) else 0
    return str(source.get("url") or (f"{many} patterns of files" if many else files) or "its API")


def draw_coverage(rows: dict[str, Any], rings: Sequence[Any]) -> bytes:
    """Draw a map of the locations by split, with the outline of the region.

    Args:
        rows: columns of the index.
        rings: rings of the region, in degrees.

    Returns:
        A PNG.
    """
    plt = _pyplot()
    lon, lat = np.asarray(rows["lon"]), np.asarray(rows["lat"])
    figure, axes = plt.subplots(figsize=(8, 6), dpi=120, layout="constrained")
    for ring in rings:
        edge = np.array(ring)
        axes.plot(edge[:, 0], edge[:, 1], color="#888888", linewidth=0.8)
    splits = np.array(rows["split"])
    for split, colour in COLOURS.items():
        members = splits == split
        if members.any():
            size = float(np.clip(2000 / len(lon), 0.3, 12))
            axes.scatter(lon[members], lat[members], s=size, c=colour, linewidths=0,
                         label=f"{split}, {members.sum():,}")  # fmt: skip
    # A degree of longitude is shorter than one of latitude by the cosine of latitude.
    axes.set_aspect(1 / np.cos(np.radians(np.mean(lat))))
    axes.set_xlabel("longitude, degrees")
    axes.set_ylabel("latitude, degrees")
    figure.legend(loc="outside lower center", ncols=len(COLOURS), frameon=False, markerscale=2)
    return _png(figure, plt)


def draw_examples(observations: SetObservations, count: int = EXAMPLES) -> bytes:
    """Draw some locations in every modality: of those with most modalities, spread evenly.

    Returns:
        A PNG.
    """
    plt = _pyplot()
    shapes = [m for m in ("aerial", "dsm", "street") if m in observations.about["shapes"]]
    names = [*shapes, "text"] if "text" in observations.modalities else shapes
    observed = np.sum(
        [np.array([why == "" for why in observations.rows[f"{m}_reason"]]) for m in names], axis=0
    )
    # Index rows follow the S2 curve, so evenly spaced rows lie all over the region.
    best = np.flatnonzero(observed == observed.max())
    rows = best[np.unique(np.linspace(0, len(best) - 1, min(count, len(best))).astype(int))]
    lonlat = observations.lonlat[rows]
    images = {
        m: observations.heights(lonlat) if m == "dsm" else observations.patches(m, lonlat).values
        for m in shapes
    }
    relief = plt.get_cmap("viridis").with_extremes(bad=VOID)
    texts = observations.texts(lonlat) if "text" in names else [None] * len(rows)
    figure, axes = plt.subplots(
        len(rows), len(shapes) + 1, figsize=(2.4 * (len(shapes) + 1.2), 2.4 * len(rows)),
        dpi=80, layout="constrained", squeeze=False,
    )  # fmt: skip
    for k, row in enumerate(rows):
        for panel, modality in zip(axes[k], shapes, strict=False):
            panel.set_axis_off()
            if observations.rows[f"{modality}_reason"][row] != "":
                panel.text(0.5, 0.5, "missing", ha="center")
                continue
            title = f"{modality} {observations.rows[f'{modality}_date'][row] or ''}".rstrip()
            if modality == "dsm":
                drawn = panel.imshow(images["dsm"][k], cmap=relief)
                figure.colorbar(drawn, ax=panel, shrink=0.7, label="m")
                void = np.isnan(images["dsm"][k]).mean()
                title += f", {void:.0%} void (grey)" if void else ""
            else:
                panel.imshow(np.moveaxis(images[modality][k][:3], 0, 2))
            panel.set_title(title, fontsize=8)
        axes[k, -1].set_axis_off()
        where = f"{lonlat[k, 1]:.5f}, {lonlat[k, 0]:.5f}\n{observations.rows['split'][row]}\n"
        axes[k, -1].text(0, 1, where + _wrap(texts[k] or ""), va="top", fontsize=8)
    return _png(figure, plt)


def _wrap(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 38))


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _png(figure: Any, plt: Any) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib, equal figures have equal bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
