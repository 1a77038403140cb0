"""``fer models``: what is at hand, what networks cost, what can be fetched."""

import functools
import hashlib
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fer_ros import cli
from fer_ros.backends import graphs
from fer_ros.fetch import PUBLISHED, Published
from fer_ros.model import MODELS, build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.cost import cost_of
from fer_ros.model.network import FaceNetwork
from fer_ros.onnx_session import OnnxSession
from fer_ros.sample import sample_crowd
from fer_ros.weights import InputSpec, model_folders, read_card, sha256_of


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A model folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "made"
    save_model(FaceNetwork(build_model("mobilefacenet"), InputSpec()), folder, "mobilefacenet")
    return folder


@pytest.fixture
def at_hand(made, tmp_path, monkeypatch) -> list[Path]:
    """The folders that the command finds: one, which a test may spoil or add others to."""
    folders = [Path(shutil.copytree(made, tmp_path / "mine"))]
    monkeypatch.setattr(cli.models, "model_folders", lambda: folders)
    return folders


counted = functools.cache(cost_of)  # each network once, whatever the number of tests


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("fer_ros.model.cost.cost_of", counted)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def models(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["models", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def table(out: str) -> dict[str, list[str]]:
    """Cells of each row by the name in the first one."""
    lines = out[out.index("network ") :].splitlines()
    assert len({line.index("  ", line.index(" px")) for line in lines[1:]}) == 1, "not aligned"
    rows = [re.split(r"\s{2,}", line) for line in lines]
    return {name: cells for name, *cells in rows}


def test_no_model_at_all_is_an_error_but_the_table_is_shown(capsys, at_hand):
    at_hand.clear()
    code, out, complaint = models(capsys)
    assert (code, complaint.count("\n")) == (1, 1)
    assert "no model folder is at hand" in complaint
    assert table(out)["mobilefacenet"] == ["1.0 M", "0.22", "112 px", "-"]


def test_models_are_listed_and_verified(capsys, at_hand):
    code, out, complaint = models(capsys)
    assert (code, complaint) == (0, "")
    assert out.startswith(
        "made: mobilefacenet, 8 emotions, 2.0 MiB\n  sees faces at 112 px in grey"
    )
    assert f"  {at_hand[0]}, sha256 " in out
    assert table(out)["mobilefacenet"][-1] == "mine"


def test_every_network_has_a_row(capsys, at_hand):
    rows = table(models(capsys)[1])
    streams = [f"two_stream, {name}" for name in PUBLISHED]
    assert list(rows) == ["network", *MODELS, *streams]
    assert rows["network"] == ["parameters", "GMAC per face", "input", "weights"]
    assert rows["two_stream, dinov2_vits14"] == ["29.8 M", "5.36", "196 px", "fetch dinov2_vits14"]
    assert rows["vgg13"][2:] == ["64 px", "-"]


def card_of(folder: Path, **changes: str) -> None:
    text = (folder / "model.yaml").read_text()
    for key, value in changes.items():
        text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.MULTILINE)
    (folder / "model.yaml").write_text(text)


@pytest.mark.parametrize(
    ("config", "row"),
    [
        ("{}", "two_stream"),
        ("{image: efficientnet_lite0}", "two_stream"),
        ("{image: [1]}", "two_stream"),
        ("{image: dinov2_vits14}", "two_stream, dinov2_vits14"),
    ],
)
def test_a_folder_stands_in_the_row_of_its_image_stream(capsys, at_hand, config, row):
    card_of(at_hand[0], architecture="two_stream", config=config)
    rows = table(models(capsys)[1])
    assert [name for name, cells in rows.items() if cells[-1] == "mine"] == [row]


def test_two_folders_of_one_network_stand_in_one_row(capsys, at_hand, made):
    at_hand.append(made)
    assert table(models(capsys)[1])["mobilefacenet"][-1] == "mine, made"


@pytest.mark.parametrize("damage", ["weights", "card"])
def test_a_damaged_model_is_told_and_the_rest_is_shown(capsys, at_hand, made, damage):
    if damage == "weights":
        (at_hand[0] / "weights.safetensors").write_bytes(b"")
    else:
        (at_hand[0] / "model.yaml").write_text("format: 99")
    at_hand.append(made)
    code, out, complaint = models(capsys)
    assert (code, complaint.count("\n")) == (1, 1)
    assert complaint.startswith(f"fer: {at_hand[0]}")
    assert out.startswith("made: mobilefacenet")
    assert table(out)["mobilefacenet"][-1] == "made"


def test_what_was_fetched_is_told(capsys, at_hand, cache):
    cache.mkdir(parents=True)
    PUBLISHED["dinov2_vits14"].path.write_bytes(b"weights")
    rows = table(models(capsys)[1])
    assert rows["two_stream, dinov2_vits14"][-1] == "fetched"
    assert rows["two_stream, dinov2_vitb14"][-1] == "fetch dinov2_vitb14"


def test_fetching_says_how_to_use_the_file(capsys, monkeypatch, tmp_path):
    """It is there already, so that nobody is asked."""
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "my cache"))
    small = Published("https://localhost/a.pth", 7, hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(PUBLISHED, "small", small)
    small.path.parent.mkdir(parents=True)
    small.path.write_bytes(b"weights")
    code, out, complaint = models(capsys, "fetch", "small")
    assert (code, complaint) == (0, "")
    assert out.startswith(f"small: {small.path}, sha256 {small.sha256[:12]}... as expected\n")
    assert "whose image stream is small" in out
    assert f"python -m training.train CONFIG DATA OUT --image-weights '{small.path}'" in out


@pytest.mark.parametrize("name", ["", "../small", "dinov2_vits15"])
def test_an_unknown_name_is_one_line(capsys, name):
    code, out, complaint = models(capsys, "fetch", name)
    assert (code, out, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("fer: no published weights are known as")


def test_without_a_network_there_is_one_line(capsys, cache, monkeypatch):
    """A proxy that nobody listens at is as good as none."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    code, out, complaint = models(capsys, "fetch", "dinov2_vits14")
    assert (code, out, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith(f"fer: {PUBLISHED['dinov2_vits14'].url}: cannot be read: ")
    assert list(cache.iterdir()) == []


def test_fetch_needs_a_name(capsys):
    with pytest.raises(SystemExit) as caught:
        models(capsys, "fetch")
    assert caught.value.code == 2


def test_an_export_goes_where_the_node_looks(capsys, made, cache, monkeypatch):
    """So that it need not be made again."""
    card = read_card(exportable(made.parent / "vgg13"))
    assert models(capsys, "export", str(card.folder))[0] == 0
    monkeypatch.setattr(graphs, "export", None)
    found = OnnxSession(graphs.graph_of(card), threads=1)
    assert found.metadata["sha256"] == card.sha256
    path = graphs.path_of(card, graphs.is_blocked())
    assert sorted(cache.iterdir()) == [path, path.with_suffix(".onnx.sha256")]


def test_an_export_goes_where_it_is_wanted(capsys, made, cache, tmp_path):
    out = tmp_path / "new" / "mine.onnx"
    folder = exportable(made.parent / "vgg13")
    code, said, complaint = models(capsys, "export", str(folder), "--out", str(out))
    assert (code, complaint) == (0, "")
    assert said == f"vgg13: {out}, {out.stat().st_size / 2**20:.1f} MiB\n"
    assert OnnxSession(out.read_bytes(), threads=1).metadata["name"] == "vgg13"
    assert out.with_suffix(".onnx.sha256").read_text() == sha256_of(out)
    assert not cache.exists()


@pytest.fixture
def crowds(tmp_path) -> Path:
    """Four pictures of ten faces."""
    folder = tmp_path / "crowds"
    folder.mkdir()
    image_bgr = sample_crowd(10)[:, :, ::-1]
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.roll(image_bgr, 3 * number, axis=1))
    return folder


def test_an_export_in_int8_is_a_model_folder(capsys, made, crowds, tmp_path):
    folder, out = exportable(made.parent / "vgg13"), tmp_path / "vgg13_int8"
    options = ("--format", "onnx-int8", "--calibrate", str(crowds), "--out", str(out))
    code, said, complaint = models(capsys, "export", str(folder), *options)
    assert (code, complaint) == (0, "")
    card = read_card(out)
    card.verify()
    size_mib = card.weights_path.stat().st_size / 2**20
    assert said.startswith(f"vgg13_int8: {out}, {size_mib:.1f} MiB\n  answers ")
    assert re.search(r"answers (100\.0|9[89]\.\d)% of 40 faces as vgg13 does\n$", said)
    assert (card.name, card.architecture) == ("vgg13_int8", "vgg13")


def test_an_int8_that_answers_otherwise_is_not_kept(capsys, made, crowds, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.backends.quantize.quantize", lambda graph, crops_rgb: graph)
    monkeypatch.setattr("fer_ros.backends.quantize.agreement", lambda *graphs_and_crops: 0.97)
    options = ("--format", "onnx-int8", "--calibrate", str(crowds), "--out", str(tmp_path / "new"))
    code, said, complaint = models(
        capsys, "export", str(exportable(made.parent / "vgg13")), *options
    )
    assert (code, said, complaint.count("\n")) == (1, "", 1)
    assert "answers 97.0% of 40 faces as before, expected 98%" in complaint
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("faces", ["nothing", "empty", "sky"])
def test_without_faces_nothing_is_calibrated(capsys, made, tmp_path, faces):
    (tmp_path / "empty").mkdir()
    (tmp_path / "sky").mkdir()
    cv2.imwrite(str(tmp_path / "sky" / "sky.png"), np.full((240, 320, 3), 200, np.uint8))
    options = ("--format", "onnx-int8", "--calibrate", str(tmp_path / faces))
    code, said, complaint = models(
        capsys, "export", str(exportable(made.parent / "vgg13")), *options
    )
    assert (code, said, complaint.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("options", [("--format", "onnx-int8"), ("--calibrate", "faces")])
def test_int8_and_its_faces_go_together(capsys, made, options):
    with pytest.raises(SystemExit) as caught:
        models(capsys, "export", str(made), *options)
    assert caught.value.code == 2
    assert "go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("provider", "code"), [("TensorrtExecutionProvider", 0), ("CUDAExecutionProvider", 1)]
)
def test_engines_are_built_where_there_is_tensorrt(
    capsys, made, cache, monkeypatch, provider, code
):
    ran = []

    class Backend:
        def __init__(self, card, device, precision):
            self.provider, self.run = provider, lambda crops: ran.append((device, precision))

    monkeypatch.setattr(cli.models, "OnnxBackend", Backend)
    told, said, complaint = models(capsys, "export", str(made), "--format", "tensorrt")
    assert (told, ran) == (code, [] if code else [("cuda", "fp32"), ("cuda", "fp16")])
    if code:
        assert complaint == "fer: made: ONNX Runtime does not start TensorRT on this machine\n"
    else:
        assert said.startswith(f"made: {cache / 'tensorrt'}/")


def exportable(folder: Path) -> Path:
    """A model folder of a network that reads faces."""
    if not folder.exists():
        save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")
    return folder


@pytest.mark.parametrize("name", ["", "nobody", "nothing/there"])
def test_a_model_that_is_not_there_is_not_exported(capsys, cache, name):
    code, said, complaint = models(capsys, "export", name)
    assert (code, said, complaint.count("\n")) == (1, "", 1)
    assert not cache.exists()


def test_a_place_that_cannot_be_written_is_one_line(capsys, made, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "mine.onnx"
    folder = exportable(made.parent / "vgg13")
    code, _, complaint = models(capsys, "export", str(folder), "--out", str(out))
    assert (code, complaint) == (1, f"fer: {tmp_path / 'file'}: File exists\n")


def test_a_model_is_shipped(capsys):
    assert "two_stream_small" in [folder.name for folder in model_folders()]
    code, out, _ = models(capsys)
    assert code == 0
    assert "two_stream_small: two_stream_small, 8 emotions" in out
    assert table(out)["two_stream_small"][-1] == "two_stream_small, two_stream_small_int8"
