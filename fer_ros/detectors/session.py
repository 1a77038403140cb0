"""Runtime of a detector: PyTorch on CUDA, or ONNX Runtime on CUDA or the CPU."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_ros.detectors.base import DetectorError
from fer_ros.inference.backoff import ExponentialBackoff
from fer_ros.inference.devices import TORCH_IMPORT_ERRORS, cuda_status
from fer_ros.inference.execution_providers import ProviderError, TensorRtProfile, open_session
from fer_ros.inference.onnx_session import TENSORRT
from fer_ros.io.errors import single_line

if TYPE_CHECKING:
    import onnx

_MIN_SIDE_PX, _DEFAULT_SIDE_PX, _MAX_SIDE_PX = 32, 320, 1024
_WARM_UP_SIDE_PX = 160
_CPU_ONLY = (
    "ONNX Runtime: this build is for the CPU only; install onnxruntime-gpu instead of onnxruntime"
)

_log = logging.getLogger(__name__)


class DetectorRuntime(Protocol):
    """A detector's graph on one device: cpu, cuda or cuda:N."""

    @property
    def device(self) -> str:
        """Device that computes it."""
        ...

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs for a batch (1, 3, h, w), sides multiples of 32. Raises RuntimeError."""
        ...


class DetectorSession:
    """A detector's graph. While a CUDA device fails, the CPU computes.

    The device is tried again after 1 s to 64 s (``ExponentialBackoff``).
    """

    def __init__(
        self,
        runtime: DetectorRuntime,
        open_cpu: Callable[[], DetectorRuntime],
        fallback: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap ``runtime``.

        Args:
            runtime: the runtime to use.
            open_cpu: opens the one that takes over. Raises ProviderError.
            fallback: why a better runtime is not used, "" if none failed.
            clock: monotonic time in seconds.
        """
        self._runtime = runtime
        self._open_cpu = open_cpu
        self._cpu: DetectorRuntime | None = None
        self._fallback = fallback
        self._last_error = ""
        self._retry = ExponentialBackoff(clock)

    @property
    def device(self) -> str:
        """Device in use at the moment."""
        return self._cpu.device if self._cpu and self._last_error else self._runtime.device

    @property
    def fallback(self) -> str:
        """Why a better runtime is not in use, or what fails at the moment; "" if nothing."""
        return "; ".join(filter(None, (self._fallback, self._last_error)))

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs for a batch (1, 3, h, w), sides multiples of 32.

        Raises RuntimeError when the CPU cannot compute it either.
        """
        if self._runtime.device == "cpu":
            return self._runtime.run(batch)
        if not self._last_error or self._retry.is_due:
            try:
                outputs = self._runtime.run(batch)
            except RuntimeError as error:
                self._postpone(error)
            else:
                self._recover()
                return outputs
        try:
            self._cpu = self._cpu or self._open_cpu()
        except ProviderError as error:
            raise RuntimeError(f"{self._last_error}; {error}") from None
        return self._cpu.run(batch)

    def _postpone(self, error: RuntimeError) -> None:
        is_new = not self._last_error
        self._last_error = (
            f"face detector on {self._runtime.device}: {single_line(error)}; the CPU takes over"
        )
        self._retry.postpone()
        if is_new:
            _log.warning("%s; the device is tried again later", self._last_error)

    def _recover(self) -> None:
        if self._last_error:
            _log.warning("face detector on %s works again", self._runtime.device)
        self._last_error = ""
        self._retry.reset()


class TensorRtRuntime:
    """TensorRT up to the largest image of its profile, ONNX Runtime's CUDA provider above it.

    TensorRT refuses larger images, which come from ``detector.input_size_px`` and from panoramas.
    """

    def __init__(
        self, tensorrt: DetectorRuntime, open_cuda: Callable[[str], DetectorRuntime]
    ) -> None:
        """``open_cuda`` opens the other one on a device, or raises ProviderError."""
        self.device = tensorrt.device
        self._tensorrt = tensorrt
        self._open_cuda = open_cuda
        self._cuda: DetectorRuntime | None = None

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs for a batch (1, 3, h, w), sides multiples of 32. Raises RuntimeError."""
        if max(batch.shape[2:]) <= _MAX_SIDE_PX:
            return self._tensorrt.run(batch)
        try:
            self._cuda = self._cuda or self._open_cuda(self.device)
        except ProviderError as error:
            raise RuntimeError(single_line(error)) from None
        return self._cuda.run(batch)


class SessionNetwork:
    """Base of the face detection networks: one graph in a session, whose state it reports.

    ``is_fast_on_cpu``: whether a search on the CPU costs little beside the classifier.
    """

    def __init__(self, session: DetectorSession, is_fast_on_cpu: bool = False) -> None:
        self._session = session
        self._is_fast_on_cpu = is_fast_on_cpu

    @property
    def device(self) -> str:
        """Device in use at the moment: cpu, cuda or cuda:N."""
        return self._session.device

    @property
    def fallback(self) -> str:
        """Why a better runtime is not in use, or what fails at the moment; "" if nothing."""
        return self._session.fallback

    @property
    def is_fast(self) -> bool:
        """Whether a search costs little beside the classifier, on the device in use."""
        return self._is_fast_on_cpu or self.device != "cpu"

    def _run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the outputs for one image (1, 3, h, w), each without its batch dimension.

        Raises RuntimeError, one line that names the detector.
        """
        try:
            outputs = self._session.run(batch)
        except RuntimeError as error:
            raise RuntimeError(f"face detector: {error}") from None
        return [output[0] for output in outputs]


def open_detector(
    model: "onnx.ModelProto",
    device: str,
    threads: int,
    torch_works: bool,
    cpu_graph: Callable[[], bytes] | None = None,
) -> DetectorSession:
    """Open a graph on ``device`` (auto, cpu, cuda or cuda:N), or on the CPU where that fails.

    ``torch_works``: whether PyTorch can compute the graph. ``cpu_graph`` makes another one for the
    CPU. A log line and ``fallback`` name what failed. Raises DetectorError when nothing works.
    """
    graph = model.SerializeToString()
    profile = _profile(graph, model.graph.input[0].name)

    def open_cpu() -> DetectorRuntime:
        return open_session(cpu_graph() if cpu_graph else graph, "cpu", threads)[0]

    def open_cuda(cuda_device: str) -> DetectorRuntime:
        return open_session(graph, cuda_device, threads)[0]

    errors: list[str] = []
    has_cuda = device != "cpu" and cuda_status().count > 0
    if has_cuda and torch_works:
        try:
            torch_graph = _open_torch(model, "cuda" if device == "auto" else device)
        except (RuntimeError, DetectorError) as error:
            errors.append(f"PyTorch on {device}: {single_line(error)}")
        else:
            return DetectorSession(torch_graph, open_cpu)
    for candidate in [device] if device in {"auto", "cpu"} else [device, "cpu"]:
        try:
            runtime: DetectorRuntime
            session, reason = open_session(graph, candidate, threads, profile=profile)
            runtime = session
            if session.device == "cpu" and cpu_graph:
                runtime = open_cpu()
            elif session.provider == TENSORRT:
                runtime = TensorRtRuntime(session, open_cuda)
        except ProviderError as error:
            errors.append(str(error))
            continue
        if has_cuda and runtime.device == "cpu" and not (errors or reason):
            reason = _CPU_ONLY
        fallback = "; ".join(filter(None, [*errors, reason]))
        if fallback:
            fallback = f"face detector on {runtime.device}: {fallback}"
            _log.warning("%s", fallback)
        return DetectorSession(runtime, open_cpu, fallback)
    raise DetectorError(f"face detector: {'; '.join(errors)}")


def _profile(graph: bytes, input_name: str) -> TensorRtProfile:
    sides = (_MIN_SIDE_PX, _DEFAULT_SIDE_PX, _MAX_SIDE_PX)
    shapes = [(1, 3, side, side) for side in sides]
    return TensorRtProfile(hashlib.sha256(graph).hexdigest(), input_name, *shapes)


def _open_torch(model: "onnx.ModelProto", device: str) -> DetectorRuntime:
    """Open a graph in PyTorch and compute an image, which loads the kernels.

    Raises DetectorError, or RuntimeError where the device cannot compute it. A full device may have
    memory later: DetectorSession tries it again.
    """
    try:
        import torch

        from fer_ros.detectors.torch_graph import TorchGraph
    except TORCH_IMPORT_ERRORS as error:
        raise DetectorError(f"it cannot be imported: {error}") from None
    graph = TorchGraph(model, device)
    with contextlib.suppress(torch.cuda.OutOfMemoryError):
        graph.run(np.zeros((1, 3, _WARM_UP_SIDE_PX, _WARM_UP_SIDE_PX), np.float32))
    return graph
