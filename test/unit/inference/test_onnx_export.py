"""Exported graphs give what PyTorch gives."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from figures import DATA

from fer_ros.alignment import align
from fer_ros.emotions import EMOTIONS
from fer_ros.inference.backends import onnx_export
from fer_ros.inference.backends.onnx_cache import GRAPH_INPUT
from fer_ros.inference.backends.onnx_export import export_onnx
from fer_ros.inference.model_store import InputSpec, ModelError, find_model, read_manifest
from fer_ros.inference.onnx_session import CPU, OnnxSession
from fer_ros.models import build_model
from fer_ros.models.backbones.face_resnet import ResidualBlock
from fer_ros.models.checkpoint import load_model, save_model
from fer_ros.models.wrapper import FaceNetwork

SHIPPED = "two_stream_small"
# All operators of a two-stream network, at a fraction of its cost.
NARROW = {"dims": [64, 64, 64], "fusion_dim": 64}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "nchwc"])
def shipped(request):
    """The graph of the shipped model."""
    return export_onnx(read_manifest(find_model(SHIPPED)), request.param)


@pytest.mark.parametrize(
    ("slope", "nchwc", "kinds"),
    [
        (0.25, False, {"Conv", "PRelu"}),
        (0.25, True, {"Conv", "Relu"}),
        (0.0, False, {"Conv", "Relu"}),
        (0.0, True, {"Conv", "Relu"}),
    ],
)
def test_prelus_become_depthwise_convolutions(slope, nchwc, kinds):
    rectifier = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 1), torch.nn.PReLU(16, slope))
    images = torch.randn(2, 3, 4, 4)
    graph = onnx_export.export_module(rectifier, images, "images", ["maps"], nchwc)
    operators = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert set(operators) - {"Constant", "Add", "Sub"} == kinds
    assert (operators.count("Conv") == 1) == (slope == 0 or not nchwc)
    (maps,) = OnnxSession(graph, threads=1).run(images.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(maps, rectifier(images).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "width", "stride", "dilation"), [(8, 8, 1, 1), (8, 16, 2, 1), (8, 16, 1, 2)]
)
def test_residual_blocks_use_layers_of_the_nchwc_layout(inputs, width, stride, dilation):
    block = torch.nn.Sequential(ResidualBlock(inputs, width, stride, dilation))
    maps = torch.randn(2, inputs, 8, 8)
    graph = onnx_export.export_module(block, maps, "maps", ["found"], nchwc=True)
    kinds = {node.op_type for node in onnx.load_from_string(graph).graph.node}
    assert kinds == {"Conv", "Relu", "Add"}
    (output,) = OnnxSession(graph, threads=1).run(maps.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(output, block(maps).numpy(), rtol=0, atol=1e-5)


def crops(astronaut, count) -> np.ndarray:
    """The portrait's face, moved and turned a little each time."""
    five = np.array([(202, 101), (246, 103.5), (223, 127), (203, 140), (244, 141)], np.float32)
    shifts = np.random.default_rng(0).normal(0, 6, (count, 5, 2)).astype(np.float32)
    return align(astronaut, five + shifts).crops_rgb


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_shipped_model(astronaut, shipped, count):
    faces = crops(astronaut, count)
    outputs = OnnxSession(shipped, threads=1).run(faces)
    with torch.inference_mode():
        expected = [
            tensor.numpy() for tensor in load_model(SHIPPED).predict(torch.from_numpy(faces))
        ]
    assert [output.shape for output in outputs] == [(count, 68, 2), (count, 8), (count, 52)]
    np.testing.assert_allclose(outputs[0], expected[0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(outputs[1], expected[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs[2], expected[2], rtol=0, atol=1e-5)


def test_only_the_batch_size_is_dynamic(shipped):
    model = onnx.load_from_string(shipped)
    assert "Shape" not in {node.op_type for node in model.graph.node}
    assert all(value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input)


def test_the_input_is_cast_before_anything_else(shipped):
    """TensorRT takes uint8 inputs into a cast only."""
    graph = onnx.load_from_string(shipped).graph
    users = [node.op_type for node in graph.node if GRAPH_INPUT in node.input]
    assert users == ["Cast"]


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("two_stream_small", {"image": "face_resnet_small"}),
        ("two_stream", {**NARROW, "scales": 2, "blendshapes": True, "image_head": True}),
        ("poster_v2", {}),
    ],
)
def test_tensorrt_supports_every_operator_and_type(tmp_path, monkeypatch, architecture, config):
    """By the table in TensorRT's own documentation, for the graphs that go to GPUs."""
    monkeypatch.setattr("fer_ros.models.poster_v2.FUSION_DIM", 64)
    stages = ((64, 2), (128, 2), (256, 2))
    monkeypatch.setattr("fer_ros.models.backbones.ir50.STAGES", stages)
    torch.manual_seed(0)
    network = FaceNetwork(build_model(architecture, **config), InputSpec())
    graph = export_onnx(save_model(network, tmp_path, architecture, **config))
    assert unsupported_by_tensorrt(graph) == []


def test_unsupported_tensorrt_operators_are_detected():
    """The table is read: a loop of uint8, and an operator that is not in it."""
    value = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["y"]),
        onnx.helper.make_node("Unique", ["y"], ["z"]),
    ]
    uint8 = onnx.TensorProto.UINT8
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [value("x", uint8, [2, 3])], [value("z", uint8, ["n"])]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
    )
    assert unsupported_by_tensorrt(model.SerializeToString()) == ["Transpose: UINT8", "Unique"]


def unsupported_by_tensorrt(graph: bytes) -> list[str]:
    """Operators of a graph that TensorRT lacks, or lacks for the type of their first input."""
    supported = json.loads((DATA / "tensorrt_operators.json").read_text())["operators"]
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph)).graph
    values = [*model.input, *model.output, *model.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in model.initializer}
    missing = set()
    for node in model.node:
        if node.op_type not in supported:
            missing.add(node.op_type)
        elif node.input and node.input[0] in types:
            name = onnx.TensorProto.DataType.Name(types[node.input[0]])
            kind = {"FLOAT": "FP32", "FLOAT16": "FP16"}.get(name, name)
            if kind not in supported[node.op_type]:
                missing.add(f"{node.op_type}: {kind}")
    return sorted(missing)


def test_blendshapes_are_a_third_output(tmp_path):
    torch.manual_seed(0)
    config = {"image": "mobilenet", "scales": 2, "blendshapes": True}
    network = FaceNetwork(build_model("two_stream_small", **config), InputSpec())
    graph = compare(network, tmp_path, "two_stream_small", config)
    names = [output.name for output in onnx.load_from_string(graph).graph.output]
    assert names == ["points_xy", "probabilities", "blendshapes"]
    faces = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), np.uint8)
    blendshapes = OnnxSession(graph, threads=1).run(faces)[2]
    assert (blendshapes.shape, blendshapes.dtype) == ((2, 52), np.float32)
    assert ((blendshapes >= 0) & (blendshapes <= 1)).all()


def test_metadata_describes_it(shipped):
    manifest = read_manifest(find_model(SHIPPED))
    metadata = OnnxSession(shipped, threads=1).metadata
    assert json.loads(metadata.pop("labels")) == list(EMOTIONS)
    assert metadata == {"name": SHIPPED, "sha256": manifest.sha256, "format": "1"}
    onnx.checker.check_model(onnx.load_from_string(shipped), full_check=True)


@pytest.mark.parametrize("nchwc", [False, True])
@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("two_stream", {**NARROW, "image": "face_resnet_small"}),
        ("two_stream", {**NARROW, "image": "mobilenet"}),
        ("two_stream_no_landmarks", NARROW),
        ("vgg13", {}),
    ],
)
def test_other_networks(tmp_path, architecture, config, nchwc):
    """Points of networks without landmarks are NaN, for any number of faces."""
    torch.manual_seed(0)
    core = build_model(architecture, **config)
    spec = InputSpec(
        size_px=core.side_px, grayscale=False, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    compare(FaceNetwork(core, spec, temperature=2.5), tmp_path, architecture, config, nchwc)


@pytest.mark.parametrize("architecture", ["image_classifier", "vgg13", SHIPPED])
def test_no_shape_is_computed(tmp_path, architecture):
    """ONNX Runtime assigns such nodes to the CPU, and a session on CUDA is refused."""
    core = build_model(architecture)
    spec = InputSpec(size_px=getattr(core, "side_px", 112))
    graph = export_onnx(save_model(FaceNetwork(core.eval(), spec), tmp_path, architecture))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(graph, options, providers=[CPU])
    optimized = onnx.load(options.optimized_model_filepath)
    assert "Shape" not in {node.op_type for node in optimized.graph.node}


@pytest.mark.parametrize(
    ("grayscale", "mean", "std", "channels"),
    [
        (False, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), 3),
        (True, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), 3),
        (True, (0.4, 0.4, 0.4), (0.2, 0.3, 0.4), 3),
        (True, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), 1),
    ],
)
def test_gray_images_are_one_channel_where_three_would_be_equal(
    tmp_path, grayscale, mean, std, channels
):
    torch.manual_seed(0)
    config = {**NARROW, "image": "face_resnet_small"}
    core = build_model("two_stream", **config)
    spec = InputSpec(size_px=core.side_px, grayscale=grayscale, mean=mean, std=std)
    graph = compare(FaceNetwork(core, spec), tmp_path, "two_stream", config)
    model = onnx.load_from_string(graph)
    kernels = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    first_kernels = [kernels[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert [dims[1] for dims in first_kernels if dims[0] == 32 and dims[2] == 7] == [channels]


def compare(network, folder, architecture, config, nchwc=False) -> bytes:
    """The graph of the network, which gives what PyTorch gives.

    Larger weights of the last layer make the probabilities of a fresh network differ.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Linear) and layer.out_features == len(EMOTIONS):
                layer.weight *= 30
    graph = export_onnx(save_model(network.eval(), folder, architecture, **config), nchwc)
    faces = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    with torch.inference_mode():
        expected = load_model(folder).predict(torch.from_numpy(faces))
    for mine, theirs in zip(OnnxSession(graph, threads=1).run(faces), expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=1e-4)
    return graph


def test_a_graph_that_differs_from_pytorch_is_rejected(monkeypatch):
    """As of an exporter with a bug: here it leaves the temperature out."""
    export_network = onnx_export._export_network

    def without_temperature(network, nchwc):
        warm = FaceNetwork(network.net, network.spec, temperature=9.0)
        return export_network(warm, nchwc)

    monkeypatch.setattr(onnx_export, "_export_network", without_temperature)
    with pytest.raises(RuntimeError, match="its probabilities differ from PyTorch's"):
        export_onnx(read_manifest(find_model(SHIPPED)))


def test_a_model_of_other_conventions_is_rejected(tmp_path):
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    save_model(network, tmp_path, "vgg13")
    text = (tmp_path / "model.yaml").read_text()
    (tmp_path / "model.yaml").write_text(text.replace("contempt", "boredom"))
    with pytest.raises(ModelError, match="expected the labels"):
        export_onnx(read_manifest(tmp_path))
