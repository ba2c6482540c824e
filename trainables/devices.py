"""Which GPUs a machine has. Torch, which is slow to load, is asked only where there may be one."""

from __future__ import annotations

import sys
from pathlib import Path

_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")
"""Of NVIDIA's driver, of its boards, of Windows' Linux, and of AMD's driver; without any no GPU can be opened."""


def gpu_names() -> tuple[str, ...]:
    """The GPUs that torch can use here, by their names, in its order."""
    here = "torch" in sys.modules or sys.platform != "linux" or any(Path(driver).exists() for driver in _DRIVERS)
    if not here:
        return ()
    import torch

    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
