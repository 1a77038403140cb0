"""A network in ONNX Runtime: imported with the first one, and what fails is a RuntimeError."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from fer_ros.errors import one_line

CPU = "CPUExecutionProvider"

Provider = str | tuple[str, dict[str, Any]]


class OnnxSession:
    """Computes one ONNX graph. Threads that wait for work sleep, whatever the setting."""

    def __init__(self, graph: bytes, threads: int = 0, providers: Sequence[Provider] = (CPU,)):
        """``threads`` 0: as many as there are cores. Raises RuntimeError, one line."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is raised
        # Idle threads would otherwise spin on the cores that the next network needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with _one_line():
            self._session = onnxruntime.InferenceSession(graph, options, providers=list(providers))
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.provider: str = self._session.get_providers()[0]
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: NDArray) -> list[NDArray]:
        """The outputs for the graph's only input. Raises RuntimeError, one line."""
        with _one_line():
            return self._session.run(None, {self._input: batch})


@contextmanager
def _one_line() -> Iterator[None]:
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    # ONNX Runtime's failures have no base of their own and are no RuntimeErrors.
    kinds = (
        failures.EPFail,
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.NotImplemented,
        failures.RuntimeException,
    )
    try:
        yield
    except kinds as error:
        raise RuntimeError(one_line(error)) from None
