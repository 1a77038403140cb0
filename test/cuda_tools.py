"""A stand-in for a CUDA device on the CPU: it captures graphs, and it can fail like a real one."""

from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

STICKY = "CUDA error: an illegal memory access was encountered"


class FakeCuda:
    """Replaces what the backends use of ``torch.cuda``.

    Attributes:
        count: devices that NVML reports.
        usable: whether CUDA itself starts, which it does not with a driver that is too old.
        capability: compute capability.
        error: raised by every call into CUDA while it is set.
        captured: batch sizes of the graphs, in the order of their capture.
        replayed: batch sizes of the replayed graphs.
        reserved: bytes that PyTorch holds, by the index of a device.
        emptied: devices that were current when the cached memory was released.
    """

    def __init__(self) -> None:
        self.count, self.usable, self.capability = 1, True, (9, 0)
        self.error: RuntimeError | None = None
        self.captured: list[int] = []
        self.replayed: list[int] = []
        self.reserved = {0: 2**20}
        self.emptied: list[int | str] = []
        self._current: int | str = 0
        self._recording: FakeGraph | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replacements = {
            "is_available": lambda: self.usable and self.count > 0,
            "is_initialized": lambda: True,
            "device_count": lambda: self.count,
            "get_device_capability": self.get_device_capability,
            "memory_reserved": lambda index: self.reserved.get(index, 0),
            "device": self.device,
            "empty_cache": self.empty_cache,
            "Stream": lambda device: FakeStream(),
            "current_stream": lambda device=None: FakeStream(),
            "graph_pool_handle": lambda: (0, 0),
            "CUDAGraph": lambda: FakeGraph(self),
            "stream": self.stream,
            "graph": self.graph,
        }
        for name, replacement in replacements.items():
            monkeypatch.setattr(torch.cuda, name, replacement)

    def check(self) -> None:
        if self.error:
            raise self.error

    def empty_cache(self) -> None:
        self.emptied.append(self._current)
        self.check()

    @contextmanager
    def device(self, device: int | str):
        previous, self._current = self._current, device
        try:
            yield
        finally:
            self._current = previous

    def get_device_capability(self, device: str) -> tuple[int, int]:
        self.check()
        if not self.usable:
            raise RuntimeError("The NVIDIA driver on your system is too old\n(found version 12020)")
        return self.capability

    @contextmanager
    def stream(self, stream: "FakeStream"):
        yield

    @contextmanager
    def graph(self, graph: "FakeGraph", pool: object, stream: "FakeStream", mode: str):
        assert mode == "thread_local"
        self._recording = graph
        try:
            yield
        finally:
            self._recording = None

    def runs(self, predict: Callable[[Tensor], tuple[Tensor, ...]]) -> Callable:
        """``predict`` as a kernel of this device: a graph that is captured meanwhile replays it."""

        def kernel(crops_rgb: Tensor) -> tuple[Tensor, ...]:
            self.check()
            outputs = predict(crops_rgb)
            if self._recording is not None:
                outputs = tuple(torch.full_like(output, -1) for output in outputs)
                self._recording.record(predict, crops_rgb, outputs)
                self.captured.append(len(crops_rgb))
            return outputs

        return kernel


class FakeStream:
    """Runs everything at once."""

    def wait_stream(self, other: "FakeStream") -> None:
        pass


class FakeGraph:
    """Computes into the outputs of its capture when it is replayed."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def record(self, predict: Callable, crops: Tensor, outputs: tuple[Tensor, ...]) -> None:
        self._predict, self._crops, self._outputs = predict, crops, outputs

    def replay(self) -> None:
        self._cuda.check()
        self._cuda.replayed.append(len(self._crops))
        for output, value in zip(self._outputs, self._predict(self._crops), strict=True):
            output.copy_(value)


class ReadsOfDevice(TorchDispatchMode):
    """Records the operators for whose results the host waits: on a CPU, whichever they are.

    Attributes:
        names: of the operators, in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        packet = operator.overloadpacket
        if packet in {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero}:
            self.names.append(str(operator))
        indices = args[1] if packet in {torch.ops.aten.index, torch.ops.aten.index_put} else ()
        if any(index is not None and index.dtype == torch.bool for index in indices):
            self.names.append(f"{operator} by bool")
        return operator(*args, **kwargs or {})
