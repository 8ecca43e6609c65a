"""A suite as a metric of ablations: the numbers are those of the client's probe."""

from pathlib import Path

import pytest
import torch

from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.suites import load_suite
from unigeo.producer.ablation.run_metrics import metric
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.evaluation.model_under_test import ModelUnderTest
from unigeo.producer.evaluation.table_probes import model_vectors
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import only
from unigeo.schemas.errors import ObservationsError, ProbeError

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "conus_open.toml"
SUITE = """
[[table]]
file = "tables/stations_temperature.parquet"
family = "climate"
targets = ["temp_mean_c", "precip_mm"]
"""
CPU = torch.device("cpu")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return path


def test_a_suite_gives_the_client_s_means(suite: Path, shared_data: Path) -> None:
    model = UniGeoCLIP(tiny(default_forms({}, text=False))).eval()
    observations = only(open_observations(EXAMPLE, shared_data), ("coordinate",))
    found = metric(f"suite:{suite}")(model, None, observations, CPU)
    (table,) = load_suite(suite).tables(shared_data)
    vectors = model_vectors(ModelUnderTest(model, None, CPU), observations)(table.lonlat)
    scores = probe_table(vectors, table.targets, table.lonlat, baselines=False)
    scores = scores[scores["features"] == "coordinate"]
    for split in ("blocked", "random"):
        mean = scores[scores["split"] == split]["r2"].mean()
        assert found[f"{split} coordinate"] == pytest.approx(mean, abs=1e-6)
        assert found[f"{split} coordinate, climate"] == pytest.approx(mean, abs=1e-6)
    assert found["blocked coordinate"] > 0.3  # untrained, it still tells north from south


def test_a_suite_needs_a_folder_and_a_file(suite: Path, tmp_path: Path) -> None:
    model = UniGeoCLIP(tiny(default_forms({}, text=False)))
    with pytest.raises(ObservationsError, match="--observations"):
        metric(f"suite:{suite}")(model, None, World(), CPU)
    with pytest.raises(ProbeError, match="nowhere"):
        metric(f"suite:{tmp_path / 'nowhere.toml'}")
