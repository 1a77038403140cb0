"""``fer models``: installed models, complexity, downloads and exports."""

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
from fer_ros.inference.backends import onnx_cache
from fer_ros.inference.download import PRETRAINED, PretrainedFile
from fer_ros.inference.model_store import InputSpec, model_folders, read_manifest, sha256_of
from fer_ros.inference.onnx_session import OnnxSession
from fer_ros.io.synthetic import tiled_faces
from fer_ros.models import MODELS, build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.complexity import ModelComplexity, complexity_of
from fer_ros.models.wrapper import FaceNetwork


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A model folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "made"
    save_model(FaceNetwork(build_model("mobilefacenet"), InputSpec()), folder, "mobilefacenet")
    return folder


@pytest.fixture
def installed_folders(model_folder, tmp_path, monkeypatch) -> list[Path]:
    """The folders that the command finds: one, which a test may spoil or add others to."""
    folders = [Path(shutil.copytree(model_folder, tmp_path / "mine"))]
    monkeypatch.setattr(cli.models, "model_folders", lambda: folders)
    return folders


@functools.cache
def counted(architecture: str, **config: str) -> ModelComplexity:
    """Real for a few networks, each counted once; test_complexity counts all."""
    if architecture in ("mobilefacenet", "vgg13") or config.get("image") == "dinov2_vits14":
        return complexity_of(architecture, **config)
    return ModelComplexity(parameters=1, macs=1, side_px=112)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("fer_ros.models.complexity.complexity_of", counted)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def models(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["models", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def table(out: str) -> dict[str, list[str]]:
    """Cells of each row by the name in the first one."""
    lines = out[out.index("network ") :].splitlines()
    assert len({line.index("  ", line.index(" px")) for line in lines[1:]}) == 1, "not aligned"
    rows = [re.split(r"\s{2,}", line) for line in lines]
    return {name: cells for name, *cells in rows}


def test_without_models_the_table_is_printed_and_the_exit_code_is_1(capsys, installed_folders):
    installed_folders.clear()
    code, out, stderr = models(capsys)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "no model is installed" in stderr
    assert table(out)["mobilefacenet"] == ["1.0 M", "0.22", "112 px", "-"]


def test_models_are_listed_and_verified(capsys, installed_folders):
    code, out, stderr = models(capsys)
    assert (code, stderr) == (0, "")
    assert out.startswith("made: mobilefacenet, 8 emotions, 2.0 MiB\n  input 112 px, grayscale")
    assert f"  {installed_folders[0]}, sha256 " in out
    assert table(out)["mobilefacenet"][-1] == "mine"


def test_every_network_has_a_row(capsys, installed_folders):
    rows = table(models(capsys)[1])
    streams = [f"two_stream, {name}" for name in PRETRAINED]
    assert list(rows) == ["network", *MODELS, *streams]
    assert rows["network"] == ["parameters", "GMAC per face", "input", "weights"]
    assert rows["two_stream, dinov2_vits14"] == ["29.8 M", "5.36", "196 px", "fetch dinov2_vits14"]
    assert rows["vgg13"][2:] == ["64 px", "-"]


def write_model_manifest(folder: Path, **changes: str) -> None:
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
def test_a_folder_is_listed_in_the_row_of_its_image_stream(capsys, installed_folders, config, row):
    write_model_manifest(installed_folders[0], architecture="two_stream", config=config)
    rows = table(models(capsys)[1])
    assert [name for name, cells in rows.items() if cells[-1] == "mine"] == [row]


def test_two_folders_of_one_network_share_a_row(capsys, installed_folders, model_folder):
    installed_folders.append(model_folder)
    assert table(models(capsys)[1])["mobilefacenet"][-1] == "mine, made"


@pytest.mark.parametrize("damage", ["weights", "manifest"])
def test_a_damaged_model_is_reported_and_the_others_are_listed(
    capsys, installed_folders, model_folder, damage
):
    if damage == "weights":
        (installed_folders[0] / "weights.safetensors").write_bytes(b"")
    else:
        (installed_folders[0] / "model.yaml").write_text("format: 99")
    installed_folders.append(model_folder)
    code, out, stderr = models(capsys)
    assert (code, stderr.count("\n")) == (1, 1)
    assert stderr.startswith(f"fer: {installed_folders[0]}")
    assert out.startswith("made: mobilefacenet")
    assert table(out)["mobilefacenet"][-1] == "made"


def test_downloaded_files_are_reported(capsys, installed_folders, cache):
    cache.mkdir(parents=True)
    PRETRAINED["dinov2_vits14"].path.write_bytes(b"weights")
    rows = table(models(capsys)[1])
    assert rows["two_stream, dinov2_vits14"][-1] == "downloaded"
    assert rows["two_stream, dinov2_vitb14"][-1] == "fetch dinov2_vitb14"


def test_fetch_prints_how_to_use_the_file(capsys, monkeypatch, tmp_path):
    """The file is cached: there is no download."""
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "my cache"))
    small = PretrainedFile("https://localhost/a.pth", 7, hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(PRETRAINED, "small", small)
    small.path.parent.mkdir(parents=True)
    small.path.write_bytes(b"weights")
    code, out, stderr = models(capsys, "fetch", "small")
    assert (code, stderr) == (0, "")
    assert out.startswith(f"small: {small.path}, sha256 {small.sha256[:12]}... as expected\n")
    assert "with the backbone small" in out
    assert f"python -m training.train CONFIG DATA OUT 'network.image_weights={small.path}'" in out


@pytest.mark.parametrize("name", ["", "../small", "dinov2_vits15"])
def test_an_unknown_name_is_reported_in_one_line(capsys, name):
    code, out, stderr = models(capsys, "fetch", name)
    assert (code, out, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith("fer: unknown pretrained weights")


def test_a_network_error_is_reported_in_one_line(capsys, cache, monkeypatch):
    """A proxy that does not respond is a network error."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    code, out, stderr = models(capsys, "fetch", "dinov2_vits14")
    assert (code, out, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith(f"fer: {PRETRAINED['dinov2_vits14'].url}: cannot be read: ")
    assert list(cache.iterdir()) == []


def test_fetch_needs_a_name(capsys):
    with pytest.raises(SystemExit) as caught:
        models(capsys, "fetch")
    assert caught.value.code == 2


def test_an_export_is_stored_where_the_node_reads_it(capsys, model_folder, cache, monkeypatch):
    """So that it need not be made again."""
    manifest = read_manifest(exportable(model_folder.parent / "vgg13"))
    assert models(capsys, "export", str(manifest.folder))[0] == 0
    monkeypatch.setattr(onnx_cache, "export_graph", None)
    session = OnnxSession(onnx_cache.load_or_export(manifest), threads=1)
    assert session.metadata["sha256"] == manifest.sha256
    path = onnx_cache.cache_path(manifest, onnx_cache.uses_nchwc_layout())
    assert sorted(cache.iterdir()) == [path, path.with_suffix(".onnx.sha256")]


def test_an_export_is_written_to_the_given_path(capsys, model_folder, cache, tmp_path):
    out = tmp_path / "new" / "mine.onnx"
    folder = exportable(model_folder.parent / "vgg13")
    code, stdout, stderr = models(capsys, "export", str(folder), "--out", str(out))
    assert (code, stderr) == (0, "")
    assert stdout == f"vgg13: {out}, {out.stat().st_size / 2**20:.1f} MiB\n"
    assert OnnxSession(out.read_bytes(), threads=1).metadata["name"] == "vgg13"
    assert out.with_suffix(".onnx.sha256").read_text() == sha256_of(out)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "folder: expected a file, found a folder; choose another path"),
        (
            ["--format", "onnx-int8", "--calibration-data", "no.png"],
            "file: expected a folder, found a file; choose another path",
        ),
    ],
)
def test_an_export_to_a_path_of_another_kind_is_refused_at_once(
    capsys, model_folder, tmp_path, monkeypatch, words, message
):
    monkeypatch.setattr("fer_ros.cli.models.export_graph", None)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    out = tmp_path / message.partition(":")[0]
    code, _, stderr = models(capsys, "export", str(model_folder), "--out", str(out), *words)
    assert (code, stderr) == (1, f"fer: --out {tmp_path / message}\n")


@pytest.fixture
def crowds(tmp_path) -> Path:
    """Four images of ten faces."""
    folder = tmp_path / "crowds"
    folder.mkdir()
    image_bgr = tiled_faces(10)[:, :, ::-1]
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.roll(image_bgr, 3 * number, axis=1))
    return folder


def test_an_int8_export_is_a_model_folder(capsys, model_folder, crowds, tmp_path):
    folder, out = exportable(model_folder.parent / "vgg13"), tmp_path / "vgg13_int8"
    options = ("--format", "onnx-int8", "--calibration-data", str(crowds), "--out", str(out))
    code, stdout, stderr = models(capsys, "export", str(folder), *options)
    assert (code, stderr) == (0, "")
    manifest = read_manifest(out)
    manifest.verify()
    size_mib = manifest.weights_path.stat().st_size / 2**20
    assert stdout.startswith(f"vgg13_int8: {out}, {size_mib:.1f} MiB\n  agrees with vgg13 on ")
    assert re.search(r"on (100\.0|9[89]\.\d)% of (39|40) faces\n$", stdout)
    assert (manifest.name, manifest.architecture) == ("vgg13_int8", "vgg13")


def test_an_int8_model_with_low_agreement_is_not_kept(
    capsys, model_folder, crowds, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "fer_ros.inference.backends.quantization.quantize", lambda graph, crops_rgb: graph
    )
    monkeypatch.setattr(
        "fer_ros.inference.backends.quantization.top1_agreement", lambda *graphs_and_crops: 0.97
    )
    options = (
        "--format",
        "onnx-int8",
        "--calibration-data",
        str(crowds),
        "--out",
        str(tmp_path / "new"),
    )
    code, stdout, stderr = models(
        capsys, "export", str(exportable(model_folder.parent / "vgg13")), *options
    )
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert re.search("int8 agrees with fp32 on 97.0% of (39|40) faces, expected 98%", stderr)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("faces", ["nothing", "empty", "sky"])
def test_calibration_without_faces_is_rejected(capsys, model_folder, tmp_path, faces):
    (tmp_path / "empty").mkdir()
    (tmp_path / "sky").mkdir()
    cv2.imwrite(str(tmp_path / "sky" / "sky.png"), np.full((240, 320, 3), 200, np.uint8))
    options = ("--format", "onnx-int8", "--calibration-data", str(tmp_path / faces))
    code, stdout, stderr = models(
        capsys, "export", str(exportable(model_folder.parent / "vgg13")), *options
    )
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("options", [("--format", "onnx-int8"), ("--calibration-data", "faces")])
def test_int8_requires_calibration_data(capsys, model_folder, options):
    with pytest.raises(SystemExit) as caught:
        models(capsys, "export", str(model_folder), *options)
    assert caught.value.code == 2
    assert "go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("provider", "code"), [("TensorrtExecutionProvider", 0), ("CUDAExecutionProvider", 1)]
)
def test_engines_are_built_where_there_is_tensorrt(
    capsys, model_folder, cache, monkeypatch, provider, code
):
    ran = []

    class Backend:
        def __init__(self, manifest, device, precision):
            self.provider, self.fallback = provider, "no libnvinfer"
            self.warm_up = lambda: ran.append((device, precision))

    monkeypatch.setattr(cli.models, "OrtBackend", Backend)
    status, stdout, stderr = models(capsys, "export", str(model_folder), "--format", "tensorrt")
    assert (status, ran) == (code, [] if code else [("cuda", "fp32"), ("cuda", "fp16")])
    if code:
        assert stderr == "fer: made: TensorRT does not start on this machine: no libnvinfer\n"
    else:
        assert stdout.startswith(f"made: {cache / 'tensorrt'}/")


def exportable(folder: Path) -> Path:
    """A model folder of a network that reads faces."""
    if not folder.exists():
        save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")
    return folder


@pytest.mark.parametrize("name", ["", "unknown_model", "nothing/there"])
def test_a_model_that_is_not_there_is_not_exported(capsys, cache, name):
    code, stdout, stderr = models(capsys, "export", name)
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert not cache.exists()


def test_an_unwritable_path_is_reported_in_one_line(capsys, model_folder, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "mine.onnx"
    folder = exportable(model_folder.parent / "vgg13")
    code, _, stderr = models(capsys, "export", str(folder), "--out", str(out))
    assert (code, stderr) == (1, f"fer: {tmp_path / 'file'}: File exists\n")


def test_a_model_is_shipped(capsys):
    assert "two_stream_small" in [folder.name for folder in model_folders()]
    code, out, _ = models(capsys)
    assert code == 0
    assert "two_stream_small: two_stream_small, 8 emotions" in out
    assert table(out)["two_stream_small"][-1] == "two_stream_small, two_stream_small_int8"
