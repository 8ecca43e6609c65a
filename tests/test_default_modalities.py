"""What is read where no modality is named, and what stands side by side in `joined`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from support import stores
from support.commands import done

from unigeo import client
from unigeo.client import Field, Probe

MODALITIES = ("coordinate", "aerial", "fused")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("defaults") / "gulf.zarr"
    stores.build(path, stores.GULF, stores.layout_of(MODALITIES))
    return path


@pytest.fixture(scope="module")
def field(path: Path) -> Field:
    return client.open_field(path)


@pytest.fixture(scope="module")
def table(field: Field) -> pd.DataFrame:
    """Centres of cells that have every vector, with a target."""
    row, col = np.nonzero(field.read("fused_status", slice(None), slice(None)) == 1)
    lonlat = field.grid.centres()[row, col][:: max(1, len(row) // 400)]
    df = pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1]})
    return df.assign(value=df["lon"] + np.random.default_rng(0).normal(0, 0.1, len(df)))


def modalities_in(columns: object) -> set[str]:
    return {name for name in MODALITIES if any(str(c).startswith(f"{name}_0") for c in columns)}


def test_fused_alone_is_read_where_no_modality_is_named(field: Field, table: pd.DataFrame) -> None:
    shape = shapely.box(-1, -1, 1, 1)
    assert modalities_in(field.sample(table)) == {"fused"}
    assert modalities_in(field.join(table, prefix="")) == {"fused"}
    assert modalities_in(field.zonal([shape])) == {"fused"}
    assert modalities_in(next(iter(field.sample_batches(table)))) == {"fused"}
    assert modalities_in(field.sample(table, modalities=field.modalities)) == set(MODALITIES)


def test_every_modality_is_read_where_there_is_no_fused(gulf: Path, table: pd.DataFrame) -> None:
    plain = client.open_field(gulf)
    assert set(plain.sample(table[:2], as_="numpy")) == set(plain.modalities)


def test_joined_leaves_fused_out_beside_two_others(field: Field, table: pd.DataFrame) -> None:
    points = table[["lon", "lat"]].to_numpy()
    sets = field.features(points)
    both = np.concatenate([sets["coordinate"], sets["aerial"]], axis=1)
    assert np.array_equal(sets["joined"], both, equal_nan=True)
    two = field.features(points, ["aerial", "fused"])
    assert two["joined"].shape[1] == two["aerial"].shape[1] + two["fused"].shape[1]


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.ProbeWarning")  # few blocks
def test_a_probe_reads_fused_unless_others_are_named(
    field: Field, table: pd.DataFrame, tmp_path: Path
) -> None:
    probe = field.probe(table, "value", block_km=60, baselines=False)
    assert probe.features == ("fused",)
    probe = field.probe(table, "value", field.modalities, block_km=60, baselines=False)
    assert probe.features == (*MODALITIES, "joined")
    before = probe.predict(table)
    loaded = Probe.load(probe.save(tmp_path / "saved", features=["fused", "joined"]), field)
    pd.testing.assert_frame_equal(loaded.predict(table), before)
    mapped = loaded.map("value", region=(-1, -1, 1, 1), features="joined")
    assert np.isfinite(mapped["prediction"]).any()


def test_commands_read_as_python_does(path: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "in.csv", index=False)
    done("sample", path, tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert modalities_in(pd.read_csv(tmp_path / "out.csv")) == {"fused"}
