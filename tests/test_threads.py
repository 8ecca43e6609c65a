import subprocess
import sys

LIMITED = """
import numpy as np
from threadpoolctl import threadpool_info
from unigeo.client.probing.linear_algebra import cholesky
from unigeo.client.threads import one_thread
with one_thread():
    cholesky(np.eye(4), 1.0)
    print({pool["num_threads"] for pool in threadpool_info()})
"""


def test_one_thread_holds_for_libraries_that_are_loaded_later() -> None:
    """Scipy brings its own BLAS, which is loaded by the first factorization."""
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "{1}"
