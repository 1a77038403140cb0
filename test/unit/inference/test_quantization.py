"""int8 graphs: nearly the same emotions and points."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from fer_ros.classifier import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.inference import devices
from fer_ros.inference.backends import BackendError, BackendSelection, open_backend
from fer_ros.inference.backends.onnx_cache import GRAPH_INPUT, export_graph, load_or_export
from fer_ros.inference.backends.onnx_export import export_module, export_onnx
from fer_ros.inference.backends.ort import OrtBackend
from fer_ros.inference.backends.quantization import (
    MIN_FACES,
    quantize,
    save_quantized,
    top1_agreement,
)
from fer_ros.inference.devices import CudaStatus, supports_int8_dot_product
from fer_ros.inference.model_store import InputSpec, ModelError, find_model, read_manifest
from fer_ros.inference.onnx_session import OnnxSession
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork

SHIPPED = "two_stream_small"


@pytest.fixture(scope="module")
def graph():
    return export_onnx(read_manifest(find_model(SHIPPED)))


@pytest.fixture
def cpu(quantized, tmp_path, monkeypatch):
    """Classifiers for a CPU with these flags, of a model with its int8 variant beside it."""
    shutil.copytree(find_model(SHIPPED), tmp_path / FP32)
    save_quantized(read_manifest(tmp_path / FP32), quantized, tmp_path / INT8)
    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "cpuinfo")

    def open_classifier(flags, **settings):
        (tmp_path / "cpuinfo").write_text(f"model name : Some\n{flags}\n")
        return Classifier(ClassifierConfig(model=str(tmp_path / FP32), threads=1, **settings))

    return open_classifier


@pytest.fixture(scope="module")
def faces(request):
    """The portrait's face, with other lights and places."""
    from fer_ros.alignment import align

    portrait = request.getfixturevalue("astronaut")
    five = np.array([(202, 101), (246, 103.5), (223, 127), (203, 140), (244, 141)], np.float32)
    random = np.random.default_rng(0)
    shifts = random.normal(0, 4, (MIN_FACES, 1, 2)) + random.normal(0, 2, (MIN_FACES, 5, 2))
    crops = align(portrait, five + shifts.astype(np.float32)).crops_rgb
    lights = random.uniform(0.5, 1.2, (MIN_FACES, 1, 1, 1))
    return (crops * lights).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def quantized(graph, faces):
    return quantize(graph, faces)


@pytest.fixture
def folder(quantized, tmp_path):
    save_quantized(read_manifest(find_model(SHIPPED)), quantized, tmp_path / "small_int8")
    return tmp_path / "small_int8"


@pytest.mark.parametrize("count", [1, 3])
def test_points_and_emotions_are_nearly_the_same(graph, quantized, faces, count):
    before = OnnxSession(graph, threads=1).run(faces[:count])
    after = OnnxSession(quantized, threads=1).run(faces[:count])
    assert 0 < np.linalg.norm(after[0] - before[0], axis=2).mean() < 0.5
    assert 0 < np.abs(after[1] - before[1]).max() < 0.1


def test_weights_are_int8_and_the_file_is_small(graph, quantized):
    assert len(quantized) < 0.5 * len(graph)
    kinds = {node.op_type for node in onnx.load_from_string(quantized).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    quantized_metadata = OnnxSession(quantized, threads=1).metadata
    assert quantized_metadata == OnnxSession(graph, threads=1).metadata | {
        "precision": "int8",
        "weight_bits": "7",
    }


def test_agreement_is_a_fraction_of_the_faces(graph, quantized, faces):
    assert top1_agreement(graph, graph, faces) == 1.0
    assert top1_agreement(graph, quantized, faces) > 0.9


@pytest.mark.parametrize("count", [0, MIN_FACES - 1])
def test_too_few_calibration_faces_are_rejected(graph, faces, count):
    with pytest.raises(ModelError, match=f"expected {MIN_FACES} faces or more .* found {count}$"):
        quantize(graph, faces[:count])


def before_relus(graph: bytes) -> set[str]:
    """Kinds of the nodes whose maps a ReLU of the graph gets."""
    nodes = onnx.load_from_string(graph).graph.node
    makers = {output: node.op_type for node in nodes for output in node.output}
    return {makers[node.input[0]] for node in nodes if node.op_type == "Relu"}


def test_relus_are_part_of_the_convolutions_before_them(graph, quantized):
    assert "Conv" in before_relus(graph)
    assert "DequantizeLinear" not in before_relus(quantized)


def test_matrix_products_return_floats(quantized):
    """What follows them, sums and GELUs, is in floats."""
    nodes = onnx.load_from_string(quantized).graph.node
    makers = {output: node for node in nodes for output in node.output}
    products = [node for node in nodes if node.op_type == "MatMul"]
    of_weights = [product for product in products if is_int8(makers.get(product.input[1]))]
    quantized_inputs = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    assert of_weights
    assert not quantized_inputs & {shape.output[0] for shape in of_weights}


def is_int8(maker: onnx.NodeProto | None) -> bool:
    return maker is not None and maker.op_type == "DequantizeLinear"


def test_a_network_of_narrow_layers_has_nothing_to_quantize(faces):
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, crops_rgb):
            maps = crops_rgb.permute(0, 3, 1, 2).float()[:, :1].repeat(1, 8, 1, 1)
            points = self.layer(maps)[:, :2, 0, :68].transpose(1, 2)
            return points, points[:, :8, 0]

    crops = torch.zeros(2, 112, 112, 3, dtype=torch.uint8)
    exported = export_module(Small(), crops, GRAPH_INPUT, ("points_xy", "probabilities"))
    with pytest.raises(ModelError, match="nothing to quantize"):
        quantize(exported, faces)


def test_an_int8_model_folder_runs_in_onnx_runtime(folder, faces, quantized, caplog):
    model_manifest = read_manifest(folder)
    choice = open_backend(model_manifest, ClassifierConfig(device="cpu", threads=1))
    assert (choice.backend.name, choice.fallback) == ("ONNX Runtime in int8", "")
    assert model_manifest.name == "small_int8"
    assert choice.reason == "ONNX Runtime in int8 on cpu: its weights are an ONNX graph"
    expected_value = OnnxSession(quantized, threads=1).run(faces[:2])
    predictions = choice.backend.run(faces[:2])
    np.testing.assert_allclose(predictions.points_xy, expected_value[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(predictions.probabilities, expected_value[1], rtol=0, atol=1e-5)


def test_pytorch_does_not_load_int8_models(folder):
    choice = open_backend(read_manifest(folder), ClassifierConfig(backend="torch", device="cpu"))
    assert choice.backend.name == "ONNX Runtime in int8"
    assert "weights.onnx is an ONNX graph" in choice.fallback


def test_a_cuda_device_causes_no_warning(folder, monkeypatch):
    monkeypatch.setattr("fer_ros.inference.backends.cuda_status", lambda: CudaStatus(1, ""))
    choice = open_backend(read_manifest(folder), ClassifierConfig())
    assert (choice.backend.name, choice.fallback) == ("ONNX Runtime in int8", "")


@pytest.mark.parametrize(
    ("machine", "flags", "bits", "warning"),
    [
        ("x86_64", "", "7", "int8 is slow; the model"),
        ("x86_64", "flags : fpu avx2 avx512f", "7", "int8 is slow; the model"),
        ("x86_64", "flags : fpu avx2 avx512f", "8", "int8 is slow and, with weights of 8 bits, in"),
        ("x86_64", "flags : avx2 avx_vnni", "8", ""),
        ("x86_64", "flags : avx512f avx512_vnni amx_int8", "8", ""),
        ("aarch64", "Features : fp asimd", "8", "int8 is slow; the model"),
        ("aarch64", "Features : fp asimd asimddp", "8", ""),
    ],
)
def test_a_cpu_on_which_int8_is_slow_or_inaccurate_is_reported(
    quantized, tmp_path, monkeypatch, caplog, machine, flags, bits, warning
):
    model = onnx.load_from_string(quantized)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, metadata | {"weight_bits": bits})
    folder = tmp_path / "small_int8"
    shipped = read_manifest(find_model(SHIPPED))
    manifest = save_quantized(shipped, model.SerializeToString(), folder)
    (tmp_path / "cpuinfo").write_text(f"model name : Some\n{flags}\n")
    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert OrtBackend(manifest, "cpu", 1).precision == "int8"
    assert supports_int8_dot_product() == (not warning)
    assert (warning in caplog.text) if warning else (caplog.text == "")


def test_weights_cannot_saturate_sums_of_16_bits(quantized):
    """255 * 64 + 255 * 64 is below 2 ** 15."""
    graph = onnx.load_from_string(quantized).graph
    int8 = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    int8 = [values for values in int8 if values.dtype == np.int8 and values.ndim > 1]
    assert int8
    assert max(np.abs(values.astype(int)).max() for values in int8) <= 64


def test_precision_int8_selects_the_variant_of_the_model(quantized, tmp_path, faces):
    source = tmp_path / "small"
    shutil.copytree(find_model(SHIPPED), source)
    config = ClassifierConfig(model=str(source), precision="int8", device="cpu", threads=1)
    with pytest.raises(ModelError, match=r"precision int8 needs .*small_int8; create it with fer"):
        Classifier(config)
    save_quantized(read_manifest(source), quantized, tmp_path / "small_int8")
    classifier = Classifier(config)
    assert (classifier.manifest.name, classifier.precision) == ("small_int8", "int8")
    assert classifier.reason.startswith("ONNX Runtime in int8 on cpu")
    assert len(classifier.classify(faces[:2])) == 2


FP32, INT8 = "small", "small_int8"
VNNI = "flags : avx512f avx512_vnni"


@pytest.mark.parametrize(
    ("flags", "settings", "gpus", "model"),
    [
        ("flags : avx2", {}, 0, FP32),
        ("", {}, 0, FP32),
        (VNNI, {}, 0, INT8),
        ("flags : avx2 avx_vnni", {"device": "cpu"}, 1, INT8),
        ("Features : fp asimd asimddp", {"backend": "onnx"}, 0, INT8),
        (VNNI, {}, 1, INT8),  # which neither PyTorch nor ONNX Runtime can use
        (VNNI, {"precision": "fp32"}, 0, FP32),
        (VNNI, {"backend": "torch"}, 0, FP32),
        (VNNI, {"backend": "torch"}, 1, FP32),
    ],
)
def test_auto_is_int8_on_a_cpu_with_dot_products(cpu, monkeypatch, flags, settings, gpus, model):
    monkeypatch.setattr("fer_ros.classifier.cuda_status", lambda: CudaStatus(gpus, ""))
    classifier = cpu(flags, **settings)
    expected = (INT8, "int8") if model == INT8 else (SHIPPED, "fp32")
    assert (classifier.manifest.name, classifier.precision) == expected
    assert ("int8, because this CPU has int8 dot products" in classifier.reason) == (model == INT8)
    assert classifier.fallback == ""


def test_a_gpu_that_is_used_computes_in_its_own_precision(cpu, monkeypatch):
    class Gpu:
        name, device, precision, fallback = "PyTorch in fp16", "cuda", "fp16", ""

    monkeypatch.setattr("fer_ros.classifier.cuda_status", lambda: CudaStatus(1, ""))
    selection = BackendSelection(Gpu(), "the fastest with CUDA", "")
    monkeypatch.setattr("fer_ros.classifier.open_backend", lambda manifest, config: selection)
    classifier = cpu(VNNI)
    assert (classifier.manifest.name, classifier.precision) == (SHIPPED, "fp16")
    assert classifier.reason == "the fastest with CUDA"


def test_int8_on_the_cpu_names_what_is_wrong_with_the_gpu(cpu, monkeypatch):
    """PyTorch for the CPU, on a machine with NVIDIA's driver."""
    monkeypatch.setattr("fer_ros.classifier.cuda_status", lambda: CudaStatus(1, ""))
    monkeypatch.setattr("fer_ros.inference.backends.cuda_status", lambda: CudaStatus(1, ""))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    classifier = cpu(VNNI)
    assert (classifier.device, classifier.precision) == ("cpu", "int8")
    assert "can use 0 CUDA devices" in classifier.fallback


@pytest.mark.parametrize("fault", ["missing", "of other weights", "damaged"])
def test_without_a_usable_int8_variant_auto_is_fp32_with_a_reason(cpu, tmp_path, fault):
    folder = tmp_path / INT8
    if fault == "missing":
        shutil.rmtree(folder)
    elif fault == "damaged":
        (folder / "weights.onnx").write_bytes(b"")
    else:
        path = folder / "model.yaml"
        source = read_manifest(tmp_path / FP32).sha256
        path.write_text(path.read_text().replace(source, "0" * 64))
    classifier = cpu(VNNI)
    assert classifier.precision == "fp32"
    assert "; fp32 although this CPU has int8 dot products: " in classifier.reason
    assert "\n" not in classifier.reason


def test_attention_maps_come_from_the_unquantized_weights(cpu, faces):
    maps = cpu(VNNI).attention(faces[:2])
    assert {len(scale) for scale in maps} == {2}


def test_a_variant_of_other_weights_is_rejected(quantized, tmp_path):
    source = tmp_path / "small"
    shutil.copytree(find_model(SHIPPED), source)
    other = replace(read_manifest(source), sha256="0" * 64)
    save_quantized(other, quantized, tmp_path / "small_int8")
    with pytest.raises(ModelError, match="not quantized from the weights of"):
        Classifier(ClassifierConfig(model=str(source), precision="int8"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("contempt", "boredom"), "expected the labels neutral, .*, found neutral, .*boredom"),
        (("40.0", "41.0"), "faces were aligned to another template"),
    ],
)
def test_graphs_of_other_conventions_are_rejected(folder, change, message):
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace(*change))
    with pytest.raises(ModelError, match=message):
        load_or_export(read_manifest(folder))


@pytest.mark.parametrize(
    "change",
    [
        ("mean: [0.5, ", "mean: [9, "),
        ("std: [0.5, ", "std: [9, "),
        ("size_px: 112", "size_px: 64"),
        ("grayscale: true", "grayscale: false"),
        ("architecture: two", "architecture: three"),
        ("blendshapes: true", "blendshapes: false"),
        ("\ntemperature: 0.9", "\ntemperature: 9"),
        ("settings_sha256: ", "settings_sha256: ''\n# "),
    ],
)
def test_settings_that_a_graph_has_built_in_cannot_be_edited(folder, change):
    path = folder / "model.yaml"
    text = path.read_text().replace(*change)
    assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(ModelError, match=f"{path}: architecture, .*has built in") as caught:
        load_or_export(read_manifest(folder))
    assert "\n" not in str(caught.value)


def test_priors_of_a_graph_can_be_edited(folder):
    path = folder / "model.yaml"
    path.write_text(
        path.read_text().replace("balanced: {temperature: 0.9", "balanced: {temperature: 4")
    )
    load_or_export(read_manifest(folder))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (("mean: [0.5, ", "mean: [9, "), "input"),
        (("balanced: {temperature: 0.9", "balanced: {temperature: 4"), "priors"),
    ],
)
def test_a_variant_of_other_settings_is_not_used(cpu, tmp_path, change, name):
    path = tmp_path / FP32 / "model.yaml"
    path.write_text(path.read_text().replace(*change))
    classifier = cpu(VNNI)
    assert classifier.precision == "fp32"
    assert f"{INT8}: {name}: expected the values of two_stream_small, found" in classifier.reason


def test_a_damaged_graph_is_rejected(folder):
    (folder / "weights.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="the file is damaged"):
        load_or_export(read_manifest(folder))


def test_a_graph_is_not_exported_again(folder):
    with pytest.raises(ModelError, match="is an ONNX graph already") as caught:
        export_graph(read_manifest(folder))
    assert not isinstance(caught.value, BackendError)


def test_a_network_without_landmarks(faces, tmp_path):
    torch.manual_seed(0)
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    exported = export_onnx(save_model(network, tmp_path, "vgg13"))
    points_xy, probabilities = OnnxSession(quantize(exported, faces), threads=1).run(faces[:2])
    assert np.isnan(points_xy).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
