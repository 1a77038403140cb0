"""An ONNX Runtime session whose errors are RuntimeErrors. ONNX Runtime is imported on first use."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from fer_ros.io.errors import single_line

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

Provider = str | tuple[str, dict[str, Any]]


class OnnxSession:
    """Runs an ONNX graph with a single input.

    Attributes:
        provider: the execution provider that computes the graph.
        device: cpu, cuda or cuda:N, the device for which the session was opened.
        metadata: custom metadata of the graph.
    """

    def __init__(
        self,
        graph: bytes,
        threads: int = 0,
        provider: Provider = CPU,
        cuda_device: str = "cuda",
    ) -> None:
        """Create a session.

        Args:
            graph: serialized ONNX model.
            threads: CPU threads, 0 for one per core. Idle threads sleep instead of spinning.
            provider: the execution provider, which has to compute all of the graph.
            cuda_device: name of the device that ``provider`` uses, cuda or cuda:N; the CPU's
                provider uses none.

        Raises:
            RuntimeError: the graph or the execution provider cannot be loaded, or it lacks an
                operator of the graph.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if provider_name(provider) != CPU:
            _preload_cuda_libraries()
            # Otherwise the CPU computes what the provider lacks, which is all of the graph where
            # one of its libraries is missing, and the session still names the provider.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors are raised, not logged
        # Spinning threads take CPU time from the next network.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with _runtime_errors():
            # enable_fallback=0: otherwise ONNX Runtime prints a failure to stdout, switches to the
            # CPU for good and reports success.
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=[provider], enable_fallback=0
            )
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.provider: str = self._session.get_providers()[0]
        self.device = "cpu" if self.provider == CPU else cuda_device
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: NDArray) -> list[NDArray]:
        """Compute the outputs of one batch. Raises RuntimeError when that fails."""
        with _runtime_errors():
            return self._session.run(None, {self._input: batch})


def provider_name(provider: Provider) -> str:
    """Name of an execution provider with or without options."""
    return provider if isinstance(provider, str) else provider[0]


def _preload_cuda_libraries() -> None:
    """Load CUDA and cuDNN from NVIDIA's pip packages, where they are installed that way."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the libraries that it misses
            onnxruntime.preload_dlls()


@contextlib.contextmanager
def _runtime_errors() -> Iterator[None]:
    """Convert ONNX Runtime's errors, which have no common base class, to RuntimeErrors."""
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

    kinds = (
        ort_errors.EPFail,
        ort_errors.Fail,
        ort_errors.InvalidArgument,
        ort_errors.InvalidGraph,
        ort_errors.InvalidProtobuf,
        ort_errors.NoSuchFile,
        ort_errors.NotImplemented,
        ort_errors.RuntimeException,
    )
    try:
        yield
    except kinds as error:
        raise RuntimeError(single_line(error)) from None
