"""Energy that the machine used, where a driver counts it."""

from pathlib import Path
from typing import Any

import torch

_RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts joules of this process's GPU (NVML), else of the CPU packages (Intel RAPL).

    The counters are the device's: other programs on it count too.
    """

    def __init__(self, device: torch.device, rapl: Path = _RAPL) -> None:
        self._gpu = _nvml(device) if device.type == "cuda" else None
        zones = sorted(rapl.glob("intel-rapl:[0-9]*")) if device.type == "cpu" else []
        self._zones = [zone for zone in zones if zone.name.count(":") == 1]
        self._last = self._read()

    def joules(self) -> float | None:
        """Joules since the last call; None where nothing counts them."""
        now = self._read()
        if now is None or self._last is None:
            return None
        spent = 0.0
        for (counted, wraps_at), (before, _) in zip(now, self._last, strict=True):
            spent += counted - before + (wraps_at if counted < before else 0.0)
        self._last = now
        return spent

    def _read(self) -> list[tuple[float, float]] | None:
        """Joules counted by each counter, and where it starts again from zero."""
        if self._gpu is not None:
            nvml, handle = self._gpu
            return [(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 0.0)]
        try:
            found = [
                (
                    int((zone / "energy_uj").read_text()) / 1e6,
                    int((zone / "max_energy_range_uj").read_text()) / 1e6,
                )
                for zone in self._zones
            ]
        except (OSError, ValueError):
            return None
        return found or None


def _nvml(device: torch.device) -> tuple[Any, Any] | None:
    """NVML and its handle of a device; None without the package or the counter."""
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # an NVMLError, or no package; training does not depend on it
        return None
    return pynvml, handle
