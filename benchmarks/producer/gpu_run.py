"""Run the stages of `gpu_run.sh`, the most valuable first, each in a process of its own.

A stage writes its figures as it finds them to `STAGE.json` in the folder of results. One that fails
or runs out of time does not stop the next; its error and the end of its output are kept. At the end
`summary.json` holds all stages, and their own files are gone, so that few files need be carried
home; `summary.txt` is the same on a page. The status is 1 if a stage failed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TESTS = ("test_folded.py", "test_packed.py", "test_training_gpu.py")
"""Those that hold tests marked `gpu`."""
LEAST_S = 10.0
"""A stage with less time than this is not begun."""
LOG_BYTES = 6000
"""Number of bytes kept of the end of a stage's output."""


@dataclass(frozen=True)
class Call:
    """Arguments of the stages."""

    out: Path
    work: Path
    device: str
    size: str
    data: Path
    seconds: float
    """Time limit of this stage."""

    @property
    def tiny(self) -> bool:
        """Whether the run is only to show that the stages work."""
        return self.size == "tiny"

    def module(self, name: str, *arguments: str, size: str = "--size") -> list[str]:
        """The command of a benchmark; a small one is profiled whatever it finds."""
        always = ["--profile"] if self.tiny and "--profile" in arguments else []
        rest = [one for one in arguments if one != "--profile"]
        return [
            *(sys.executable, "-m", f"benchmarks.producer.{name}", "--device", self.device),
            *(size, self.size, *rest, *always),
        ]


def tests(call: Call) -> list[str]:
    """Run the tests marked `gpu`."""
    return [
        *(sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"),
        *("-c", str(ROOT / "benchmarks/producer/gpu_pytest.ini"), f"--rootdir={ROOT}"),
        f"--junitxml={call.work / 'tests.xml'}",
        *(str(ROOT / "tests" / name) for name in TESTS),
    ]


def equal(call: Call) -> list[str]:
    """Compare with the CPU."""
    return call.module("gpu_equal", "--out", str(call.out / "equal.json"))


def step(call: Call) -> list[str]:
    """Time whole steps, and the first one with its compiling."""
    few = ("--batch", "12", "--chunk", "5", "--steps", "2", "--workers", "2")
    many = ("--steps", "10", "--seconds", "60", "--workers", "12")
    options = few if call.tiny else many
    return call.module(
        "step", *options, "--profile", "--out", str(call.out / "step.json"), size="--preset"
    )


def step_again(call: Call) -> list[str]:
    """The same in half of the memory."""
    return [*step(call), "--chunk", "256"]


def rates(call: Call) -> list[str]:
    """Time rasterization."""
    return call.module("gpu", "--profile", "--out", str(call.out / "rates.json"))


def loss(call: Call) -> list[str]:
    """Time the loss, and measure its memory."""
    return call.module("gpu_loss", "--profile", "--out", str(call.out / "loss.json"))


def learn(call: Call) -> list[str]:
    """Train on real observations."""
    return call.module(
        *("gpu_train", "--data", str(call.data), "--seconds", f"{call.seconds - 5:g}"),
        *("--out", str(call.out / "train.json")),
    )


@dataclass(frozen=True)
class Stage:
    """One part of a run."""

    name: str
    command: Callable[[Call], list[str]]
    most_s: float
    """Longest time that it gets on a GPU."""
    again: Callable[[Call], list[str]] | None = None
    """What is tried if it fails."""


STAGES = (
    Stage("tests", tests, 140),
    Stage("equal", equal, 100),
    Stage("step", step, 150, step_again),
    Stage("rates", rates, 120),
    Stage("loss", loss, 45),
    Stage("train", learn, 600),
)
"""The most valuable first; time that one leaves is for those after it."""


def run(stage: Stage, call: Call) -> dict[str, Any]:
    """Run a stage; return its report with how it ended and how long it ran."""
    begun = time.monotonic()
    path = call.out / f"{stage.name}.json"
    path.unlink(missing_ok=True)
    ended, log = _process(stage.command(call), call, stage.name, call.seconds)
    left = call.seconds - (time.monotonic() - begun)
    if ended and stage.again is not None and left >= LEAST_S:
        first = {"first_try": _read(path) | {"log": log}}
        ended, log = _process(stage.again(call), call, stage.name, left)
    else:
        first = {}
    report = _read(path) | first
    if stage.name == "tests":
        report |= _tests(call.work / "tests.xml")
    report |= {"seconds": round(time.monotonic() - begun, 1)}
    if ended:
        report = {"failed": ended} | report | {"log": log}
    path.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _process(command: list[str], call: Call, stage: str, seconds: float) -> tuple[str | None, str]:
    """Run a command; return how it failed, if it did, and the end of its output."""
    path = call.work / f"{stage}.log"
    environment = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a machine's own plugins may ask for more
        "TORCHINDUCTOR_CACHE_DIR": str(call.work / f"{stage}.inductor"),
        "TRITON_CACHE_DIR": str(call.work / f"{stage}.triton"),
    }
    with path.open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    output = path.read_bytes()[-LOG_BYTES:].decode(errors="replace")
    if status is None:
        return f"it took longer than {seconds:.0f} s", output
    return (f"it ended with status {status}" if status else None), output


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return report


def _tests(path: Path) -> dict[str, Any]:
    """Count tests, as pytest wrote them down."""
    if not path.exists():
        return {"figures": []}
    (suite,) = xml.etree.ElementTree.parse(path).getroot().iter("testsuite")
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    rows = (("fail", failed, 0), ("pass", passed, None), ("skip", count["skipped"], None))
    return {
        "figures": [
            {
                "name": f"GPU tests that {verb}",
                "value": number,
                "unit": "",
                "least": None,
                "most": most,
                "kept": None if most is None else number <= most,
            }
            for verb, number, most in rows
        ],
        "slowest": sorted(
            ((float(case.get("time", 0)), case.get("name")) for case in suite.iter("testcase")),
            reverse=True,
        )[:5],
    }


def page(summary: dict[str, Any]) -> str:
    """The summary on a page."""
    about = summary["machine"]
    lines = [
        f"{about.get('device', 'unknown device')}, torch {about.get('torch')}, "
        f"CUDA {about.get('cuda')}, Triton {about.get('triton')}, Python {about.get('python')}, "
        f"{about.get('cores')} cores; size {summary['size']}, {summary['seconds']:.0f} s",
        "",
    ]
    for name, stage in summary["stages"].items():
        how = f"FAILED: {last_line(stage['failed'])}" if "failed" in stage else "done"
        lines.append(f"{name}: {how}, {stage.get('seconds', 0):.0f} s")
        lines += [f"    {figure_line(figure)}" for figure in stage.get("figures", [])]
        for key in stage:
            if key.endswith("profile"):
                lines.append(f"    {key}: the longest of {len(stage[key])} operations")
                lines += [
                    f"        {row['device_ms'] or row['cpu_ms']:9.2f} ms  {row['name'][:70]}"
                    for row in stage[key][:3]
                ]
    return "\n".join(lines) + "\n"


def last_line(error: str) -> str:
    """The last line of an error, without its traceback."""
    return error.strip().splitlines()[-1]


def figure_line(figure: dict[str, Any]) -> str:
    """One figure beside its goal."""
    verdict = {True: "kept", False: "MISSED", None: "not judged here"}[figure["kept"]]
    goal = goal_of(figure)
    unit = f" {figure['unit']}" if figure["unit"] else ""
    return f"{figure['name']}: {figure['value']:.6g}{unit}" + (f" ({goal}: {verdict})" * bool(goal))


def goal_of(figure: dict[str, Any]) -> str:
    """The goal in words; empty where there is none."""
    if figure["least"] is not None:
        return f"at least {figure['least']:g}"
    return f"at most {figure['most']:g}" if figure["most"] is not None else ""


def summarized(
    stages: dict[str, dict[str, Any]], options: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """All stages, and what they ran on."""
    keys = ("device", "cores", "python", "torch", "cuda", "triton")
    known = [stage for stage in stages.values() if "torch" in stage]
    return {
        "machine": {key: known[0].get(key) for key in keys} if known else {},
        "size": options.size,
        "seconds": round(seconds, 1),
        "failed": [name for name, stage in stages.items() if "failed" in stage],
        "missed": [
            figure["name"]
            for stage in stages.values()
            for figure in stage.get("figures", [])
            if figure["kept"] is False
        ],
        "stages": stages,
    }


def main() -> None:
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("base", "tiny"), default="base")
    parser.add_argument("--stages", default=",".join(names), help="some of them, by commas")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it")
    parser.add_argument("--data", type=Path, default=ROOT / "build/carried")
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    wanted = options.stages.split(",")
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"there is no stage {', '.join(unknown)}; there are {', '.join(names)}")
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    begun, reports = time.monotonic(), {}
    for stage in STAGES:
        if stage.name not in wanted:
            continue
        left = 60 * options.minutes - (time.monotonic() - begun)
        call = Call(
            out, options.work, options.device, options.size, options.data.absolute(),
            min(stage.most_s, left) if options.device == "cuda" else left,
        )  # fmt: skip
        if left < LEAST_S:
            reports[stage.name] = {"failed": "no time was left"}
        else:
            print(f"{stage.name}, at most {call.seconds:.0f} s", flush=True)
            reports[stage.name] = run(stage, call)
        summary = summarized(reports, options, time.monotonic() - begun)
        (out / "summary.txt").write_text(page(summary))
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    for name in reports:
        (out / f"{name}.json").unlink(missing_ok=True)
    print(page(summary), end="")
    sys.exit(bool(summary["failed"]))


if __name__ == "__main__":
    main()
