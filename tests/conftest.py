import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("unigeo", "typecheck.check").__enter__()

settings.register_profile("unigeo", deadline=None, print_blob=True)
settings.load_profile("unigeo")

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real data is not there")
    return SHARED
