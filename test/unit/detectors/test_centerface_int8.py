"""CenterFace in int8: close to fp32, made once, and used where it should be."""

import errno
import json
import logging
import sys

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from onnx import ModelProto

from fer_ros.boxes import iou
from fer_ros.config import DetectorConfig
from fer_ros.detector import ImageDetector
from fer_ros.detectors import centerface, centerface_int8, session
from fer_ros.detectors.centerface import CenterFace, load_centerface
from fer_ros.detectors.centerface_int8 import int8_graph
from fer_ros.inference.devices import CudaStatus
from fer_ros.inference.execution_providers import open_session

BATCH = np.zeros((1, 3, 32, 32), np.float32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder, which is not there yet."""
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def opened(monkeypatch):
    """The graphs that are opened on the CPU, "int8" or bytes of fp32, on a CPU that suits int8."""
    graphs = []

    def open_recorded(graph, *arguments, **options):
        graphs.append(graph)
        return open_session(fp32 if graph == b"int8" else graph, *arguments, **options)

    fp32 = load_centerface(centerface.find_model("")).SerializeToString()
    monkeypatch.setattr(session, "open_session", open_recorded)
    monkeypatch.setattr(centerface, "int8_graph", lambda model: b"int8")
    monkeypatch.setattr(centerface, "supports_int8_dot_product", lambda: True)
    return graphs


def people(portrait: np.ndarray, heights_px: tuple[int, ...]) -> np.ndarray:
    """A photograph (480, 640, 3) with portraits side by side, of these heights of the face."""
    image = cv2.resize(skimage.data.coffee(), (640, 480))
    left = 0
    for height_px in heights_px:
        scale = height_px / 112
        part = cv2.resize(
            portrait[24:214, 155:298], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
        )
        image[100 : 100 + part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + 10
    return image


def test_int8_finds_the_same_faces(cache, monkeypatch, astronaut):
    heights_px = (20, 24, 32, 48, 64, 160)
    crowd_rgb = people(astronaut, heights_px)
    fp32 = ImageDetector(CenterFace(threads=1), DetectorConfig()).detect(crowd_rgb)
    monkeypatch.setattr(centerface, "supports_int8_dot_product", lambda: True)
    int8 = ImageDetector(CenterFace(threads=1), DetectorConfig()).detect(crowd_rgb)
    assert len(int8) == len(fp32) == len(heights_px)
    overlaps = iou(fp32.boxes_xyxy, int8.boxes_xyxy)
    assert overlaps.max(axis=1).min() > 0.8
    same = overlaps.argmax(axis=1)
    sizes_px = fp32.boxes_xyxy[:, 3] - fp32.boxes_xyxy[:, 1]
    shifts_px = np.linalg.norm(int8.points_xy[same] - fp32.points_xy, axis=2).mean(axis=1)
    assert (shifts_px / sizes_px).max() < 0.05


def test_all_wide_layers_compute_in_int8(published_centerface):
    model = centerface_int8.name_nodes(load_centerface(published_centerface))
    ranges = json.loads(centerface_int8.RANGES_FILE.read_text())
    graph = centerface_int8.quantize(model, ranges).graph
    producers = {name: node.op_type for node in graph.node for name in node.output}
    inputs = [producers.get(node.input[0]) for node in graph.node if node.op_type == "Conv"]
    assert inputs == ["DequantizeLinear"] * 60


def test_the_graph_is_made_once_and_again_when_it_is_damaged(
    cache, published_centerface, monkeypatch, caplog
):
    model = load_centerface(published_centerface)
    made = []
    monkeypatch.setattr(centerface_int8, "quantize", lambda model, _: made.append(1) or model)
    graphs = [int8_graph(model), int8_graph(model)]
    assert (len(made), graphs[0]) == (1, graphs[1])
    next(cache.glob("*.onnx")).write_bytes(b"damaged")
    assert int8_graph(model) == graphs[0]
    assert len(made) == 2
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "wrong sha256, making it again"
    ]


def test_without_a_cache_the_graph_is_made_at_each_start(
    tmp_path, published_centerface, monkeypatch, caplog
):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "file" / "cache"))
    model, quantized = load_centerface(published_centerface), ModelProto(producer_name="int8")
    monkeypatch.setattr(centerface_int8, "quantize", lambda model, _: quantized)
    assert int8_graph(model) == quantized.SerializeToString()
    assert (
        "made again at each start: Not a directory; name a writable folder" in caplog.messages[-1]
    )


def test_without_space_for_temporary_files_the_detector_stays_in_fp32(
    cache, published_centerface, monkeypatch, caplog
):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    model = load_centerface(published_centerface)
    monkeypatch.setattr(centerface_int8, "quantize", fail)
    assert int8_graph(model) == model.SerializeToString()
    assert "is computed in fp32: No space left on device; free space" in caplog.messages[-1]
    assert not list(cache.glob("*.onnx"))


@pytest.mark.parametrize("missing", ["onnxruntime.quantization", "onnxruntime"])
def test_without_the_quantization_tools_the_detector_stays_in_fp32(monkeypatch, missing):
    monkeypatch.setattr(centerface, "supports_int8_dot_product", lambda: True)
    assert centerface.uses_int8("")
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    assert not centerface.uses_int8("")


@pytest.mark.parametrize(
    ("is_named", "has_dot_products", "is_int8"),
    [(False, True, True), (False, False, False), (True, True, False), (True, False, False)],
)
def test_int8_is_used_for_the_published_file_where_the_cpu_suits_it(
    opened, published_centerface, monkeypatch, is_named, has_dot_products, is_int8
):
    monkeypatch.setattr(centerface, "supports_int8_dot_product", lambda: has_dot_products)
    network = CenterFace(str(published_centerface) if is_named else "", threads=1)
    assert (opened[-1] == b"int8", network.is_fast) == (is_int8, is_int8)


@pytest.mark.parametrize("has_dot_products", [True, False])
def test_beside_a_gpu_the_cpu_takes_over_in_its_precision(opened, monkeypatch, has_dot_products):
    class Gpu:
        device = "cuda"

        def __init__(self, model, device):
            pass

        def run(self, batch):
            raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(session, "cuda_status", lambda: CudaStatus(1, ""))
    monkeypatch.setattr("fer_ros.detectors.torch_graph.TorchGraph", Gpu)
    monkeypatch.setattr(centerface, "supports_int8_dot_product", lambda: has_dot_products)
    network = CenterFace(threads=1, device="auto")
    assert (network.device, network.is_fast, opened) == ("cuda", True, [])
    network.detect(BATCH[0].transpose(1, 2, 0).astype(np.uint8), 0.5, 0.3)
    assert (network.device, network.is_fast) == ("cpu", has_dot_products)
    assert (opened == [b"int8"]) == has_dot_products


def test_the_log_names_int8(cache, published_centerface, caplog):
    caplog.set_level(logging.INFO)
    int8_graph(load_centerface(published_centerface))
    assert "face detector: CenterFace in int8" in caplog.messages
