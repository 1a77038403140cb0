"""Sessions of ONNX Runtime for builds, machines and failures that are made up."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from fer_ros.inference import execution_providers as providers
from fer_ros.inference.execution_providers import (
    ProviderError,
    TensorRtProfile,
    engine_dir,
    open_session,
    provider_candidates,
)
from fer_ros.inference.onnx_session import CPU, CUDA, TENSORRT, provider_name

FULL = [TENSORRT, CUDA, CPU]
PROFILE = TensorRtProfile("ab" * 8, "x", (1, 4), (2, 4), (20, 4))
ROW = np.ones((3, 4), np.float32)


def graph() -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    node = helper.make_node("Neg", ["x"], ["y"])
    return helper.make_model(
        helper.make_graph([node], "small", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    ).SerializeToString()


class FakeOnnxRuntime:
    """ONNX Runtime whose GPU providers compute on the CPU, and can fail as the real ones do.

    Attributes:
        fails_to_start: providers whose session raises EPFail.
        computes_nothing: providers that leave all operators to the CPU, as a provider does whose
            libraries cannot be loaded. The session names them all the same.
        fails_to_run: whether a session with a GPU provider raises EPFail when it runs.
        sessions: provider lists of the requested sessions.
    """

    def __init__(self, monkeypatch, available, version=0):
        self.fails_to_start: set[str] = set()
        self.computes_nothing: set[str] = set()
        self.fails_to_run = False
        self.sessions: list[list[str]] = []
        real, fake = onnxruntime.InferenceSession, self

        class Session(real):
            def _create_inference_session(self, expected, options, disabled=None):
                """Where ONNX Runtime's own session, and its silent fallback, calls the library."""
                names = [provider_name(provider) for provider in expected]
                fake.sessions.append(names)
                if fake.fails_to_start & set(names):
                    raise ort_errors.EPFail("[ONNXRuntimeError] : 11 : EP_FAIL :\nno engine")
                if is_strict(self._sess_options) and CPU in names:
                    raise ort_errors.InvalidArgument("Conflicting session configuration")
                if is_strict(self._sess_options) and set(names) <= fake.computes_nothing:
                    raise ort_errors.Fail("nodes that are assigned to the default CPU EP")
                self._sess_options.add_session_config_entry(_STRICT, "0")
                self._fallback_providers = [CPU]
                super()._create_inference_session([CPU], None)
                self._names = names

            def get_providers(self):
                return self._names

            def set_providers(self, providers=None, options=None):
                self._names = list(providers)

            def run(self, outputs, feeds, run_options=None):
                if fake.fails_to_run and self._names[0] != CPU:
                    self._sess = _Failing(self._sess)
                return super().run(outputs, feeds, run_options)

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(providers, "tensorrt_version", lambda: version)
        monkeypatch.setattr(providers, "gpu_name", lambda index: f"NVIDIA Orin (nvgpu) {index}")


_STRICT = "session.disable_cpu_ep_fallback"


def is_strict(options: onnxruntime.SessionOptions) -> bool:
    try:
        return options.get_session_config_entry(_STRICT) == "1"
    except RuntimeError:  # not set
        return False


class _Failing:
    def __init__(self, session):
        self._session = session

    def run(self, *_):
        raise ort_errors.EPFail("[ONNXRuntimeError] : 11 : EP_FAIL :\nCUDA failure 700")

    def __getattr__(self, name):
        return getattr(self._session, name)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "cache"))
    return lambda available=FULL, version=100300: FakeOnnxRuntime(monkeypatch, available, version)


def names(candidates):
    return [provider_name(provider) for provider in candidates]


@pytest.mark.parametrize(
    ("available", "version", "profile", "device", "candidates"),
    [
        ([CPU], 0, PROFILE, "auto", [CPU]),
        ([CPU], 100300, PROFILE, "cpu", [CPU]),
        (FULL, 100300, PROFILE, "cpu", [CPU]),
        ([CUDA, CPU], 100300, PROFILE, "auto", [CUDA, CPU]),
        (FULL, 0, PROFILE, "auto", [CUDA, CPU]),
        (FULL, 100300, PROFILE, "auto", FULL),
        (FULL, 100300, PROFILE, "cuda:1", [TENSORRT, CUDA]),
        (FULL, 100300, None, "cuda", [CUDA]),
    ],
)
def test_the_candidates(machine, available, version, profile, device, candidates):
    machine(available, version)
    assert names(provider_candidates(device, "auto", profile)) == candidates


@pytest.mark.parametrize(
    ("available", "version", "device", "precision", "in_fp16"),
    [
        (FULL, 100300, "auto", "auto", False),
        (FULL, 100300, "auto", "fp32", False),
        (FULL, 100300, "cuda:1", "fp16", True),
        (FULL, 100300, "auto", "bf16", None),
        (FULL, 100300, "cpu", "fp16", None),
        (FULL, 0, "cuda", "fp16", None),
        ([CPU], 0, "auto", "fp16", None),
        ([CPU], 0, "cpu", "bf16", None),
    ],
)
def test_fp16_needs_tensorrt_and_nothing_has_bf16(
    machine, available, version, device, precision, in_fp16
):
    machine(available, version)
    if in_fp16 is None:
        message = f"^ONNX Runtime: precision '{precision}' needs .*: set classifier.precision to"
        with pytest.raises(ProviderError, match=message):
            provider_candidates(device, precision, PROFILE)
    else:
        _, options = provider_candidates(device, precision, PROFILE)[0]
        assert options["trt_fp16_enable"] is in_fp16


def test_fp32_means_no_tf32(machine):
    machine()
    for precision, has_key in (("auto", False), ("fp32", True)):
        ((_, options),) = provider_candidates("cuda", precision)
        assert ("use_tf32" in options) is has_key


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_build_without_cuda_is_an_error(machine, device):
    machine([CPU])
    with pytest.raises(ProviderError, match="for the CPU only; install onnxruntime-gpu instead"):
        provider_candidates(device)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cpu:0"])
def test_invalid_devices_are_rejected(machine, device):
    machine()
    with pytest.raises(ProviderError, match="expected auto, cpu, cuda or cuda:N, found"):
        open_session(graph(), device)


@pytest.mark.parametrize(("device", "index"), [("auto", 0), ("cuda", 0), ("cuda:2", 2)])
def test_all_providers_use_the_device(machine, device, index):
    machine()
    first = provider_candidates(device, "auto", PROFILE)[:2]
    assert [options["device_id"] for _, options in first] == [index, index]


def test_the_options_of_tensorrt(machine, tmp_path):
    """The folder exists before the session; fp32 layer norms, a timing cache."""
    machine()
    _, options = provider_candidates("auto", "fp16", PROFILE)[0]
    folder = tmp_path / "cache" / "tensorrt" / f"NVIDIA_Orin_nvgpu_0-100300-{'ab' * 8}"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(folder)
    assert options["trt_engine_cache_enable"] is options["trt_timing_cache_enable"] is True
    assert options["trt_layer_norm_fp32_fallback"] is True
    assert options["trt_profile_min_shapes"] == "x:1x4"
    assert options["trt_profile_max_shapes"] == "x:20x4"
    assert not folder.exists()
    session, _ = open_session(graph(), "auto", precision="fp16", profile=PROFILE)
    assert (session.provider, folder.is_dir()) == (TENSORRT, True)


def test_engines_of_another_gpu_version_or_graph_have_folders_of_their_own():
    folders = {
        engine_dir("ab", "NVIDIA Orin (nvgpu)", 100300),
        engine_dir("cd", "NVIDIA Orin (nvgpu)", 100300),
        engine_dir("ab", "NVIDIA Thor", 100300),
        engine_dir("ab", "NVIDIA Orin (nvgpu)", 100400),
    }
    assert len(folders) == 4


@pytest.mark.parametrize(
    ("failing", "device", "provider", "fallback"),
    [
        (set(), "auto", TENSORRT, ""),
        ({TENSORRT}, "auto", CUDA, "TensorrtExecutionProvider does not start: .* no engine"),
        (set(), "cuda", TENSORRT, ""),
        (set(), "cuda:1", TENSORRT, ""),
        ({TENSORRT}, "cuda:1", CUDA, "TensorrtExecutionProvider does not start: .* no engine"),
        ({TENSORRT, CUDA}, "auto", CPU, ".* no engine; CUDAExecutionProvider does .* no engine"),
    ],
)
def test_a_provider_that_fails_to_start_is_reported(
    machine, capfd, failing, device, provider, fallback
):
    """ONNX Runtime's own fallback would print, and call itself TensorRT."""
    machine().fails_to_start = failing
    session, reported = open_session(graph(), device, 1, profile=PROFILE)
    np.testing.assert_array_equal(session.run(ROW)[0], -ROW)
    assert session.provider == provider
    on_cuda = "cuda" if device == "auto" else device
    assert session.device == ("cpu" if provider == CPU else on_cuda)
    assert re.fullmatch(fallback, reported), reported
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("lying", "provider"), [({TENSORRT}, CUDA), ({TENSORRT, CUDA}, CPU), ({CUDA}, TENSORRT)]
)
def test_a_provider_that_leaves_the_graph_to_others_is_not_used(machine, lying, provider):
    fake = machine()
    fake.computes_nothing = lying
    session, reported = open_session(graph(), "auto", 1, profile=PROFILE)
    np.testing.assert_array_equal(session.run(ROW)[0], -ROW)
    assert session.provider == provider
    used = FULL[: FULL.index(provider)]
    reason = "does not start: nodes that are assigned to the default CPU EP"
    assert reported == "; ".join(f"{name} {reason}" for name in used)


def test_without_a_provider_that_computes_the_device_is_an_error(machine):
    machine().computes_nothing = {CUDA}
    with pytest.raises(ProviderError, match=r"^ONNX Runtime: device 'cuda': CUDA.* not start: nod"):
        open_session(graph(), "cuda", 1)


def test_a_provider_that_fails_at_run_time_raises_and_stays_selected(machine, capfd):
    """No silent switch to the CPU in the live path."""
    fake = machine()
    session, _ = open_session(graph(), "auto", 1)
    fake.fails_to_run = True
    with pytest.raises(RuntimeError, match=r"^\[ONNXRuntimeError\] .* CUDA failure 700$"):
        session.run(ROW)
    assert session._session.get_providers() == [CUDA]
    assert capfd.readouterr().out == ""


def stored(text: str, *names: str) -> Path:
    """The folder of engines with these files."""
    folder = engine_dir(PROFILE.graph_id, "NVIDIA Orin (nvgpu) 0", 100300)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", ["TRTKernel_0_sm87.engine", "sm87.timing", "TRTKernel_0.profile"])
def test_a_damaged_file_of_tensorrt_is_built_again(machine, caplog, name):
    """Or one of another GPU: TensorRT refuses it when the session is created."""
    fake = machine()
    folder = stored("of another GPU", name)

    class Damaged(set):
        def __and__(self, names):
            return names & {TENSORRT} if (folder / name).exists() else set()

    fake.fails_to_start = Damaged()
    session, fallback = open_session(graph(), "auto", 1, profile=PROFILE)
    assert (session.provider, fallback) == (TENSORRT, "")
    assert list(folder.parent.rglob("*")) == [folder]
    assert "TensorRT fails with these engines, building new ones: " in caplog.text


def test_engines_outlive_a_failure_that_is_not_theirs(machine):
    """A full GPU refuses good engines, which took minutes to build."""
    fake = machine()
    folder = stored("good", "TRTKernel_0_sm87.engine", "sm87.timing")
    before = sorted(folder.parent.rglob("*"))
    fake.fails_to_start = {TENSORRT}
    session, fallback = open_session(graph(), "auto", 1, profile=PROFILE)
    assert (session.provider, fake.sessions[:2]) == (CUDA, [[TENSORRT]] * 2)
    assert "TensorrtExecutionProvider does not start: " in fallback
    assert sorted(folder.parent.rglob("*")) == before
    assert (folder / "sm87.timing").read_text() == "good"


def test_engines_that_cannot_be_replaced_cost_tensorrt_only(machine, monkeypatch):
    fake = machine()
    stored("of another GPU", "TRTKernel_0_sm87.engine")
    fake.fails_to_start = {TENSORRT}
    error = PermissionError(13, "Permission denied", "/cache")
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(error))
    session, fallback = open_session(graph(), "auto", 1, profile=PROFILE)
    assert session.provider == CUDA
    assert "engines cannot be stored: /cache: Permission denied" in fallback


def test_an_unwritable_cache_disables_tensorrt_only(machine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "file"))
    machine()
    session, fallback = open_session(graph(), "auto", 1, profile=PROFILE)
    assert session.provider == CUDA
    assert "engines cannot be stored: " in fallback
    assert "name a writable folder in FER_ROS_CACHE" in fallback


def test_a_damaged_graph_is_an_error_on_every_device(machine):
    machine([CPU])
    with pytest.raises(
        ProviderError, match=r"^ONNX Runtime: device 'cpu': CPUExecutionProvider does "
    ):
        open_session(b"not a graph", "cpu")


def test_the_folder_of_engines_is_in_the_cache(monkeypatch):
    monkeypatch.setenv("FER_ROS_CACHE", "/somewhere/cache")
    assert engine_dir("ab", "NVIDIA Thor", 1) == Path("/somewhere/cache/tensorrt/NVIDIA_Thor-1-ab")
