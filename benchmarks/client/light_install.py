"""Measure what `pip install "unigeo[conus]"` brings, and one line that joins a real table.

    python -m benchmarks.client.light_install --out build/light

Builds both distributions, installs their wheels into a new environment, and prints their
sizes, the packages, and what `client.join(client.example("counties"))` takes in a new process,
import included. On Linux the process has no network, where users may have a namespace of their own.
"""

import argparse
import shutil
import subprocess
from pathlib import Path

from benchmarks.client.installing import ROOT, start, uv, weight

DISTRIBUTIONS = (ROOT, ROOT / "packages/unigeo-conus")
JOIN = "from unigeo import client; client.join(client.example('counties'))"
WITHOUT_NETWORK = ["unshare", "--map-root-user", "--net"]


def build(folder: Path) -> list[Path]:
    """Build both distributions, print their sizes, and return their wheels."""
    shutil.rmtree(folder, ignore_errors=True)
    for source in DISTRIBUTIONS:
        subprocess.run([*uv(), "build", "--quiet", "--out-dir", folder, source], check=True)
    for file in sorted(folder.glob("unigeo*")):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    return sorted(folder.glob("*.whl"))


def install(folder: Path, *wheels: Path) -> Path:
    """Return the Python of a new environment with the wheels and what they need."""
    python = folder / "bin/python"
    subprocess.run([*uv(), "venv", "--quiet", "--clear", folder], check=True)
    command = [*uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    subprocess.run([*command, *wheels], check=True, cwd=folder)
    return python


def guard() -> list[str]:
    """Return the command that takes the network from a process; none where it is not allowed."""
    try:
        allowed = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    return WITHOUT_NETWORK if allowed else []


def main() -> None:
    """Build, install and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="working folder")
    out = parser.parse_args().out.absolute()
    python = install(out / "environment", *build(out / "dist"))
    print("environment: {packages:.0f} packages, {mb:.0f} MB".format(**weight(python)))
    without = guard()
    taken = start([*without, str(python), "-W", "ignore", "-c", JOIN])
    print(JOIN)
    print("without a network:" if without else "with a network:", end=" ")
    print("{seconds:.2f} s, {cpu_s:.2f} s of CPU; medians of {rounds} processes".format(**taken))


if __name__ == "__main__":
    main()
