"""Energy use of the machine, where a driver counts it."""

from pathlib import Path
from typing import Any

import torch

_RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Energy counter of this process's GPU (NVML), else of the CPU packages (Intel RAPL).

    The counters belong to the device, so that the energy of other programs on it is included.
    """

    def __init__(self, device: torch.device, rapl: Path = _RAPL) -> None:
        self._gpu = _nvml(device) if device.type == "cuda" else None
        zones = sorted(rapl.glob("intel-rapl:[0-9]*")) if device.type == "cpu" else []
        # A name with two colons is a part of a package, whose energy the package includes.
        self._zones = [zone for zone in zones if zone.name.count(":") == 1]
        self._last = self._read()

    def joules(self) -> float | None:
        """Return the joules since the last call; None without counters."""
        counters = self._read()
        if counters is None or self._last is None:
            return None
        spent = 0.0
        for (counted, wraps_at), (before, _) in zip(counters, self._last, strict=True):
            spent += counted - before + (wraps_at if counted < before else 0.0)
        self._last = counters
        return spent

    def _read(self) -> list[tuple[float, float]] | None:
        """Read each counter's joules, and the joules at which it wraps to zero."""
        if self._gpu is not None:
            nvml, handle = self._gpu
            return [(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 0.0)]
        try:
            counters = [
                (
                    int((zone / "energy_uj").read_text()) / 1e6,
                    int((zone / "max_energy_range_uj").read_text()) / 1e6,
                )
                for zone in self._zones
            ]
        except (OSError, ValueError):
            return None
        return counters or None


def _nvml(device: torch.device) -> tuple[Any, Any] | None:
    """Return NVML and its handle of a device; None without the package or the counter."""
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # an NVMLError, or no package; training does not depend on it
        return None
    return pynvml, handle
