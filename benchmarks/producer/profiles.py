"""The 20 operations that take most of the time of some work, by torch's profiler."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

ROWS = 20


def profiled(work: Callable[[], Any], device: torch.device) -> list[dict[str, Any]]:
    """Run work twice, and give the operations of the second time.

    Returns:
        By operation: its name, how often, and its own milliseconds on the CPU and the device; those
        first that take the longest there.
    """
    work()
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        work()
        if cuda:
            torch.cuda.synchronize(device)
    rows = [
        {
            "name": one.key[:120],
            "count": one.count,
            "cpu_ms": one.self_cpu_time_total / 1e3,
            "device_ms": one.self_device_time_total / 1e3,
        }
        for one in profiler.key_averages()
    ]
    return sorted(rows, key=lambda row: row["device_ms" if cuda else "cpu_ms"], reverse=True)[:ROWS]
