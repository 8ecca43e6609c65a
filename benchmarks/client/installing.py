"""Fresh environments: the size of an installation, and the time of a start."""

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment(cache: Path, name: str, package: str) -> Path:
    """Return the Python of an environment with one package and its dependencies.

    The environment stays in the cache folder; a package given by its folder is reinstalled.
    """
    folder = cache / f"venv_{name}"
    python = folder / "bin" / "python"
    done = folder / "done"
    if package == str(ROOT):
        done.unlink(missing_ok=True)
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([*uv(), "venv", "--quiet", "--python", sys.executable, folder], check=True)
        install = [*uv(), "pip", "install", "--quiet", "--python", python, "--compile-bytecode"]
        subprocess.run([*install, package], check=True, cwd=ROOT)
        done.touch()
    return python


def weight(python: Path) -> dict[str, float]:
    """Return an environment's number of packages and megabytes, compiled bytecode included."""
    site = next((python.parents[1] / "lib").glob("python*/site-packages"))
    files = [file for file in site.rglob("*") if file.is_file()]
    return {
        "packages": len(list(site.glob("*.dist-info"))),
        "mb": sum(file.stat().st_size for file in files) / 1e6,
    }


def start(command: list[str], rounds: int = 9) -> dict[str, Any]:
    """Return CPU and wall seconds of a fresh process: medians, and the least."""
    import time

    cpu, wall = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/") as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall.append(time.perf_counter() - begun)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}")
        cpu.append(usage.ru_utime + usage.ru_stime)
    return {
        "cpu_s": statistics.median(cpu),
        "least_cpu_s": min(cpu),
        "seconds": statistics.median(wall),
        "rounds": rounds,
    }


def uv() -> list[str]:
    """Return the command of uv, which `make env` installs beside Python."""
    beside = Path(sys.executable).parent / "uv"
    return [str(beside)] if beside.exists() else ["uv"]
