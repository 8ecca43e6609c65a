"""A distribution that brings a field, as `packages/unigeo-conus` does."""

from pathlib import Path


def install(site: Path, name: str, store: Path) -> None:
    """Write a distribution into a folder that stands on `sys.path`, with a link to a store."""
    package = f"fields_of_{name.replace('-', '_')}"
    folder = site / package / "fields" / name
    folder.mkdir(parents=True)
    (folder / "field.zarr").symlink_to(store)
    (site / package / "__init__.py").write_text("raise AssertionError('imported')\n")
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[unigeo.fields]\n{name} = {package}\n")
