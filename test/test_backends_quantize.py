"""Graphs in int8: emotions and points nearly as before."""

import numpy as np
import onnx
import pytest
import torch

from fer_ros.backends import BackendError, open_backend
from fer_ros.backends import onnx as onnx_backend
from fer_ros.backends.export import OUTPUTS, export_onnx, trace
from fer_ros.backends.graphs import export, graph_of
from fer_ros.backends.onnx import OnnxBackend, has_int8_products
from fer_ros.backends.providers import INPUT
from fer_ros.backends.quantize import MIN_FACES, agreement, quantize, save_quantized
from fer_ros.config import ClassifierConfig
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.onnx_session import OnnxSession
from fer_ros.weights import InputSpec, ModelError, find_model, read_card

SHIPPED = "two_stream_small"


@pytest.fixture(scope="module")
def graph():
    return export_onnx(read_card(find_model(SHIPPED)))


@pytest.fixture(scope="module")
def faces(request):
    """The portrait's face, with other lights and places."""
    from fer_ros.align import align

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
    save_quantized(read_card(find_model(SHIPPED)), quantized, tmp_path / "small_int8")
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
    told = OnnxSession(quantized, threads=1).metadata
    assert told == OnnxSession(graph, threads=1).metadata | {"precision": "int8"}


def test_agreement_is_a_share_of_faces(graph, quantized, faces):
    assert agreement(graph, graph, faces) == 1.0
    assert agreement(graph, quantized, faces) > 0.9


@pytest.mark.parametrize("count", [0, MIN_FACES - 1])
def test_a_few_faces_are_not_enough(graph, faces, count):
    with pytest.raises(ModelError, match=f"expected {MIN_FACES} faces or more .* found {count}$"):
        quantize(graph, faces[:count])


def before_relus(graph: bytes) -> set[str]:
    """Kinds of the nodes whose maps a ReLU of the graph gets."""
    nodes = onnx.load_from_string(graph).graph.node
    makers = {made: node.op_type for node in nodes for made in node.output}
    return {makers[node.input[0]] for node in nodes if node.op_type == "Relu"}


def test_relus_are_part_of_the_convolutions_before_them(graph, quantized):
    assert "Conv" in before_relus(graph)
    assert "DequantizeLinear" not in before_relus(quantized)


def test_products_give_floats(quantized):
    """What follows them, sums and GELUs, is in floats."""
    nodes = onnx.load_from_string(quantized).graph.node
    makers = {made: node for node in nodes for made in node.output}
    products = [node for node in nodes if node.op_type == "MatMul"]
    of_weights = [each for each in products if is_int8(makers.get(each.input[1]))]
    quantised = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    assert of_weights
    assert not quantised & {each.output[0] for each in of_weights}


def is_int8(maker: onnx.NodeProto | None) -> bool:
    return maker is not None and maker.op_type == "DequantizeLinear"


def test_a_network_of_small_layers_has_nothing_to_quantise(faces):
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, crops_rgb):
            maps = crops_rgb.permute(0, 3, 1, 2).float()[:, :1].repeat(1, 8, 1, 1)
            points = self.layer(maps)[:, :2, 0, :68].transpose(1, 2)
            return points, points[:, :8, 0]

    made = trace(Small(), torch.zeros(2, 112, 112, 3, dtype=torch.uint8), INPUT, OUTPUTS)
    with pytest.raises(ModelError, match="nothing to quantise"):
        quantize(made, faces)


def test_a_model_folder_of_it_is_computed_by_onnx_runtime(folder, faces, quantized, caplog):
    card = read_card(folder)
    choice = open_backend(card, ClassifierConfig(device="cpu", threads=1))
    assert (choice.backend.name, choice.fallback) == ("ONNX Runtime, int8", "")
    assert card.name == "small_int8"
    assert choice.reason == "ONNX Runtime, int8 on cpu: its weights are a graph"
    wanted = OnnxSession(quantized, threads=1).run(faces[:2])
    for mine, theirs in zip(choice.backend.run(faces[:2]), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_pytorch_leaves_it_to_onnx_runtime(folder):
    choice = open_backend(read_card(folder), ClassifierConfig(backend="torch", device="cpu"))
    assert choice.backend.name == "ONNX Runtime, int8"
    assert "weights.onnx is a graph" in choice.fallback


def test_a_cuda_device_is_no_reason_for_a_warning(folder, monkeypatch):
    monkeypatch.setattr("fer_ros.backends.cuda_devices", lambda: 1)
    choice = open_backend(read_card(folder), ClassifierConfig())
    assert (choice.backend.name, choice.fallback) == ("ONNX Runtime, int8", "")


@pytest.mark.parametrize(
    ("flags", "warns"),
    [
        ("", True),
        ("flags : fpu avx2 avx512f", True),
        ("flags : avx2 avx_vnni", False),
        ("flags : avx512f avx512_vnni amx_int8", False),
        ("Features : fp asimd asimddp", False),
    ],
)
def test_a_cpu_that_is_slow_at_int8_is_told(folder, monkeypatch, tmp_path, caplog, flags, warns):
    (tmp_path / "cpuinfo").write_text(f"model name : Some\n{flags}\n")
    monkeypatch.setattr(onnx_backend, "_CPU_INFO", tmp_path / "cpuinfo")
    OnnxBackend(read_card(folder), "cpu", 1)
    assert has_int8_products() != warns
    assert ("no dot products of int8" in caplog.text) == warns


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("contempt", "boredom"), "expected our labels"),
        (("40.0", "41.0"), "expected our labels and crop template"),
    ],
)
def test_graphs_of_other_conventions_are_refused(folder, change, complaint):
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace(*change))
    with pytest.raises(ModelError, match=complaint):
        graph_of(read_card(folder))


def test_a_damaged_graph_is_refused(folder):
    (folder / "weights.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="the file is damaged"):
        graph_of(read_card(folder))


def test_a_graph_is_not_exported_again(folder):
    with pytest.raises(ModelError, match="is a graph already") as caught:
        export(read_card(folder))
    assert not isinstance(caught.value, BackendError)


def test_a_network_without_landmarks(faces, tmp_path):
    torch.manual_seed(0)
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    made = export_onnx(save_model(network, tmp_path, "vgg13"))
    points_xy, probabilities = OnnxSession(quantize(made, faces), threads=1).run(faces[:2])
    assert np.isnan(points_xy).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
