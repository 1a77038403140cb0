"""Time budget, timing on CPU and GPU, and the ceilings of the device."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch


@dataclass(frozen=True)
class Scale:
    """How much is measured; the defaults are those of a real run."""

    networks: tuple[str, ...] = ("two_stream_small", "two_stream", "poster_v2")
    compared: tuple[str, ...] = ("efficientnet_b0",)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    faces_per_frame: tuple[int, ...] = (1, 5, 10)
    repeats: int = 50
    training_batch: int = 256
    training_steps: int = 40
    ceiling_side: int = 8192
    ceiling_bytes: int = 2**31
    validation_interval_s: float = 20.0


DRY_RUN = Scale(
    networks=("two_stream_small",),
    compared=("vgg13",),
    batches=(1, 2),
    faces_per_frame=(1,),
    repeats=1,
    training_batch=4,
    training_steps=1,
    ceiling_side=64,
    ceiling_bytes=2**16,
    validation_interval_s=0.0,
)
"""Everything once, in small, to try the program."""


@dataclass
class Budget:
    """Time limit of all measurements; ``skipped``: reasons by name of what was not run."""

    seconds: float
    skipped: dict[str, str] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 or less when the time is over."""
        return self.seconds - (time.monotonic() - self.started_s)

    def allows(self, name: str) -> bool:
        """Whether there is time for another measurement; notes its name when there is none."""
        if self.left_s > 0:
            return True
        self.skipped[name] = "no time left"
        return False


def synchronize(device: str) -> None:
    """Wait until the device has finished all queued work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def time_calls(work: Callable[[], object], device: str, repeats: int) -> dict[str, float]:
    """Milliseconds of single calls, each until its result is there: median and 95th percentile."""
    for _ in range(min(3, repeats)):
        work()
    times_ms = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times_ms.append((time.perf_counter() - start) * 1000)
    times_ms.sort()
    high = times_ms[min(len(times_ms) - 1, round(0.95 * len(times_ms)))]
    return {"median_ms": statistics.median(times_ms), "p95_ms": high}


def time_stream(work: Callable[[], object], device: str, repeats: int) -> float:
    """Seconds of one call when many are queued one behind the other."""
    for _ in range(min(3, repeats)):
        work()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / repeats


@torch.inference_mode()
def measure_ceilings(device: str, scale: Scale) -> dict[str, float]:
    """What the device reaches at best: copies within its memory, and matrix products."""
    ceilings = {"copy_gb_s": _copy_rate(device, scale)}
    side = scale.ceiling_side
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)):
        left = torch.ones(side, side, dtype=dtype, device=device)
        product_s = time_stream(
            partial(torch.matmul, left, left), device, max(1, scale.repeats // 5)
        )
        ceilings[f"matmul_{name}_tflops"] = 2 * side**3 / product_s / 1e12
    return ceilings


def _copy_rate(device: str, scale: Scale) -> float:
    """GB/s read and written."""
    source = torch.zeros(scale.ceiling_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = time_stream(lambda: target.copy_(source), device, scale.repeats)
    return 2 * scale.ceiling_bytes / seconds / 1e9


def describe_machine(device: str) -> dict[str, Any]:
    """Versions and device, for the report."""
    machine: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": device,
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        machine["gpu"] = properties.name
        machine["memory_gib"] = round(properties.total_memory / 2**30, 1)
        machine["capability"] = f"{properties.major}.{properties.minor}"
    try:
        import onnxruntime
    except ImportError:
        machine["onnxruntime"] = None
    else:
        machine["onnxruntime"] = onnxruntime.__version__
        machine["providers"] = onnxruntime.get_available_providers()
    return machine
