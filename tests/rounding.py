"""Run the tests of floating-point products under other kernels than this machine's own.

    python tests/rounding.py          # under the most foreign ones, as `make test-all` does
    python tests/rounding.py --all    # under each kernel, instruction set and number of threads
    python tests/rounding.py --all --busy -x tests/test_ridge.py    # and as pytest is told

numpy's and scipy's OpenBLAS, torch's MKL and oneDNN, and the loops of torch and numpy choose their
code by the processor and by the number of threads. A test of what they compute must hold with any.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
NO_PRODUCTS = (
    "ablation", "ablation_report", "benchmark_step", "benchmarks", "catalogue", "changing_stores",
    "client_cli", "client_cli_areas", "client_cli_points", "compiling", "conventions", "counting",
    "covering", "dates", "faults", "field", "gpu_run", "heights", "ignored_ranges", "imagery",
    "imports", "joining", "kernels", "layout", "observations", "observing", "overrides",
    "own_columns", "packages", "points", "polygon_forms", "polygons", "production_faults",
    "production_inputs", "production_kills", "progress", "regions", "rounding", "s2",
    "security", "servers", "sharding", "skips", "store_page", "street_sources", "table_parts",
    "tables", "terrain", "text_tables", "texts_of_locations", "valid_polygons", "validation",
    "verifying",
)  # fmt: skip
"""Files of tests without products, by name; what is not listed here is run."""
CORES = ("Prescott", "Haswell", "Zen", "SkylakeX", "ARMV8", "NEOVERSEN1")
"""Names by which OpenBLAS can be asked for its kernels."""
SAFE = {"OPENBLAS_L2_SIZE": "512"}
"""Beside a kernel that was asked for: OpenBLAS 0.3.34 knows Zen 4 and 5 by a cache of level 2 of
1,024 kB, and gives any kernel blocks too large for its stack there (its issues 6013, 6021)."""
PLAIN = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
"""Torch without any vector instruction that is not on every processor."""
ASK = (
    "import numpy, scipy.linalg, threadpoolctl; a = numpy.ones((70, 70)); a @ a; "
    "print({i.get('architecture') for i in threadpoolctl.threadpool_info()})"
)
FEATURES = (
    "from numpy._core import _multiarray_umath as m; "
    "print(*(f for f in m.__cpu_dispatch__ if m.__cpu_features__[f]))"
)


def products() -> list[str]:
    """Files of tests that compare what products gave."""
    left_out = {f"test_{name}" for name in NO_PRODUCTS}
    return [str(path) for path in sorted(HERE.glob("test_*.py")) if path.stem not in left_out]


def told(code: str, settings: Mapping[str, str]) -> str:
    """What code prints under some settings; nothing if the processor cannot run them."""
    environment = own() | settings
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def own() -> dict[str, str]:
    """The environment, with nothing said of kernels."""
    said = ("OPENBLAS_", "MKL_", "ONEDNN_", "ATEN_", "OMP_", "NPY_DISABLE")
    return {key: value for key, value in os.environ.items() if not key.startswith(said)}


def forced(core: str) -> dict[str, str]:
    """Settings that ask OpenBLAS for a kernel."""
    return {"OPENBLAS_CORETYPE": core} | SAFE


def kernels() -> dict[str, str]:
    """Name of each kernel of OpenBLAS that took, and that no other name before it gave."""
    mine = told(ASK, {})
    found: dict[str, str] = {}
    for core in CORES:
        taken = told(ASK, forced(core))
        if taken and taken != mine and taken not in found.values():
            found[core] = taken
    return found


def foreign() -> dict[str, str]:
    """Settings as far from this machine's own as there are."""
    core = next(iter(kernels()), None)
    return PLAIN if core is None else PLAIN | forced(core)


def everything() -> Iterator[dict[str, str]]:
    """Settings one after the other; the first are the machine's own."""
    yield {}
    for core in kernels():
        yield forced(core)
    yield PLAIN
    yield {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    features = told(FEATURES, {})
    if features:
        yield {"NPY_DISABLE_CPU_FEATURES": features}
    for threads in ("1", "2", "4"):
        yield {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Keep every core busy meanwhile."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range((os.cpu_count() or 1) if wanted else 0)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    """Run pytest once for each settings; exit code 1 if any run failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="every kernel, not the most foreign")
    parser.add_argument("--busy", action="store_true", help="beside a process on each core")
    options, rest = parser.parse_known_args()
    files = [] if any(part.partition("::")[0].endswith(".py") for part in rest) else products()
    failed = []
    for settings in everything() if options.all else [foreign()]:
        name = " ".join(f"{key}={value}" for key, value in settings.items()) or "the machine's own"
        print(f"\nkernels: {name}; OpenBLAS says {told(ASK, settings)}", flush=True)
        command = [sys.executable, "-m", "pytest", "-n", "2", "-q", *files, *rest]
        with busy(options.busy):
            if subprocess.run(command, env=own() | settings, cwd=HERE.parent).returncode:
                failed.append(name)
    print("\n".join(f"failed with {name}" for name in failed) or "all passed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
