import os
import signal
from importlib.util import find_spec
from pathlib import Path
from shutil import which

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shell starts what it leaves in the background with SIGINT ignored, and tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# One thread per test process: two torch processes of two threads each on two cores wait for each
# other, and run thirty times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the CPU; read when torch is imported

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from support.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401, hooks

if find_spec("beartype"):  # a machine lent for its GPU may lack it
    import support.typecheck  # noqa: F401  the hook takes it as an attribute of `support`

    install_import_hook("unigeo", "support.typecheck.check").__enter__()

SLOW = [HealthCheck.too_slow]  # no fault of the code: the machine may be busy
settings.register_profile(
    "unigeo", max_examples=40, deadline=None, suppress_health_check=SLOW, print_blob=True
)
settings.load_profile("unigeo")

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real data is not there")
    return SHARED


@pytest.fixture(scope="session")
def gulf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published store, to be read only."""
    from support import stores

    path = tmp_path_factory.mktemp("stores") / "gulf.zarr"
    stores.build(path)
    return path


@pytest.fixture(scope="session")
def fiji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published store across the antimeridian, compressed, to be read only."""
    from support import stores

    path = tmp_path_factory.mktemp("stores") / "fiji.zarr"
    stores.build(path, stores.FIJI, stores.layout_of(("coordinate",), codec="zstd"))
    return path


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small rasters and their description, to be read only."""
    from support import small_rasters

    path = tmp_path_factory.mktemp("small")
    small_rasters.write_folder(path)
    return path


@pytest.fixture(scope="session")
def small_product(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that an unbroken run makes of them, not published, to be read only."""
    from support import small_rasters

    path = tmp_path_factory.mktemp("stores") / "paris.zarr"
    encoder = small_rasters.encoder_for(small_rasters.observe(small_folder))
    assert not small_rasters.produce(path, encoder).failures
    return path


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A published store of each layout, by name, to be read only; see `data/make_store.py`."""
    from zipfile import ZipFile

    folder = tmp_path_factory.mktemp("past")
    found = {}
    for packed in sorted((Path(__file__).parent / "data").glob("layout*.zip")):
        with ZipFile(packed) as archive:
            archive.extractall(folder / packed.stem)
        found[packed.stem] = folder / packed.stem / "gulf.zarr"
    return found


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published store of modalities of several widths, and covariates; to be read only."""
    from support import stores

    path = tmp_path_factory.mktemp("stores") / "wide.zarr"
    stores.build_wide(path)
    return path
