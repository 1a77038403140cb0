"""``fer models``: list installed models, download pretrained weights, export models."""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import align
from fer_ros.config import ClassifierConfig, DetectorConfig
from fer_ros.detector import make_detector
from fer_ros.inference.backends.onnx_cache import (
    cache_path,
    export_graph,
    store_graph,
    uses_nchwc_layout,
)
from fer_ros.inference.backends.ort import OrtBackend, engine_id
from fer_ros.inference.devices import gpu_name, tensorrt_version
from fer_ros.inference.download import DETECTORS, PRETRAINED, fetch
from fer_ros.inference.execution_providers import engine_dir
from fer_ros.inference.model_store import (
    INT8_SUFFIX,
    ModelError,
    ModelManifest,
    find_model,
    model_folders,
    read_manifest,
)
from fer_ros.inference.onnx_session import TENSORRT
from fer_ros.io.media import MediaError, open_media
from fer_ros.types import CROP_SIZE_PX

_HEADING = ("network", "parameters", "GMAC per face", "input", "weights")
_MIN_AGREEMENT = 0.98
_MAX_FACES = 1000


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to ``fer``."""
    parser = commands.add_parser(
        "models",
        help="list installed models",
        description="List the installed models, verify their weights, and show the complexity of "
        "every network: parameters, and billions of multiply-accumulates (GMAC) for one face.",
    )
    parser.set_defaults(run=_models)
    subcommands = parser.add_subparsers(title="commands")
    names = ", ".join(PRETRAINED | DETECTORS)
    fetching = subcommands.add_parser(
        "fetch",
        help="download pretrained weights",
        description="Download pretrained weights of a backbone or a face detector and verify "
        "them. No other command of fer downloads files.",
    )
    fetching.add_argument("name", metavar="NAME", help=f"one of {names}")
    fetching.set_defaults(run=_fetch)
    exporting = subcommands.add_parser(
        "export",
        help="export a model for another runtime",
        description="onnx: one ONNX graph, from uint8 crops to landmarks and probabilities, with "
        "its sha256 beside it; without --out, in the cache folder, from which the node then starts "
        "without PyTorch. onnx-int8: a model folder with the graph quantized to int8, calibrated "
        "on the faces in PATH. tensorrt: the engines, fp32 and fp16, for the first GPU of this "
        "machine, in the cache folder.",
    )
    exporting.add_argument("name", metavar="NAME", help="an installed model, or a model folder")
    exporting.add_argument(
        "--format",
        choices=["onnx", "onnx-int8", "tensorrt"],
        default="onnx",
        help="default: %(default)s",
    )
    exporting.add_argument(
        "--calibration-data",
        metavar="PATH",
        type=Path,
        help="for int8: image, video, or folder of them",
    )
    exporting.add_argument(
        "--out",
        metavar="PATH",
        type=Path,
        help="default: a file in the cache folder; for int8, the folder NAME_int8 in the current "
        "one. The node looks for NAME_int8 beside the folder of the model",
    )
    exporting.set_defaults(run=_export, parser=exporting)


def _models(arguments: argparse.Namespace) -> int:
    folders = model_folders()
    manifests = [manifest for folder in folders if (manifest := _verified(folder))]
    for manifest in manifests:
        _print_model(manifest)
    if not folders:
        print("fer: no model is installed: the installation is incomplete", file=sys.stderr)
    if manifests:
        print()
    _print_table([_HEADING, *_complexity_rows(manifests)])
    return 0 if folders and len(manifests) == len(folders) else 1


def _fetch(arguments: argparse.Namespace) -> int:
    name = arguments.name
    path = fetch(name)
    print(f"{name}: {path}, sha256 {(PRETRAINED | DETECTORS)[name].sha256[:12]}... as expected")
    if name in DETECTORS:
        return 0
    print(f"To train a two_stream network with the backbone {name} from it:")
    override = shlex.quote(f"network.image_weights={path}")
    print(f"  python -m training.train CONFIG DATA OUT {override}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    if (arguments.format == "onnx-int8") != bool(arguments.calibration_data):
        arguments.parser.error("--calibration-data PATH and --format onnx-int8 go together")
    manifest = read_manifest(find_model(arguments.name))
    _check_out(arguments.out, is_folder=arguments.format == "onnx-int8")
    if arguments.format == "tensorrt":
        return _build_engines(manifest)
    if arguments.calibration_data:
        return _export_int8(manifest, arguments)
    nchwc = uses_nchwc_layout() and not arguments.out  # --out: a graph for any machine
    graph, path = export_graph(manifest, nchwc), arguments.out or cache_path(manifest, nchwc)
    store_graph(graph, path)
    print(f"{manifest.name}: {path}, {len(graph) / 2**20:.1f} MiB")
    return 0


def _check_out(path: Path | None, is_folder: bool) -> None:
    """Raise ModelError when a file cannot be written for a folder, or the other way around."""
    if path and path.exists() and path.is_dir() != is_folder:
        kinds = ("a folder", "a file") if is_folder else ("a file", "a folder")
        raise ModelError(
            f"--out {path}: expected {kinds[0]}, found {kinds[1]}; choose another path"
        )


def _build_engines(manifest: ModelManifest) -> int:
    """Build the engines that the node uses, for each ``classifier.precision``."""
    for precision in ("fp32", "fp16"):
        backend = OrtBackend(manifest, "cuda", precision=precision)
        if backend.provider != TENSORRT:
            raise ModelError(
                f"{manifest.name}: TensorRT does not start on this machine: "
                f"{backend.fallback or 'ONNX Runtime was built without it'}"
            )
        backend.warm_up()
    print(f"{manifest.name}: {engine_dir(engine_id(manifest), gpu_name(0), tensorrt_version())}")
    return 0


def _export_int8(manifest: ModelManifest, arguments: argparse.Namespace) -> int:
    """Keep the quantized model only if nearly all calibration faces keep their emotion."""
    from fer_ros.inference.backends.quantization import quantize, save_quantized, top1_agreement

    crops_rgb = detect_crops(arguments.calibration_data)
    graph = export_graph(manifest, uses_nchwc_layout())
    quantized = quantize(graph, crops_rgb)
    agreement = top1_agreement(graph, quantized, crops_rgb)
    if agreement < _MIN_AGREEMENT:
        raise ModelError(
            f"{manifest.name}: int8 agrees with fp32 on {agreement:.1%} of {len(crops_rgb)} faces, "
            f"expected {_MIN_AGREEMENT:.0%}: calibrate on more faces like those of the robot"
        )
    saved = save_quantized(manifest, quantized, arguments.out or Path(manifest.name + INT8_SUFFIX))
    size_mib = len(quantized) / 2**20
    print(f"{saved.name}: {saved.folder}, {size_mib:.1f} MiB")
    print(f"  agrees with {manifest.name} on {agreement:.1%} of {len(crops_rgb)} faces")
    return 0


def detect_crops(path: Path) -> NDArray[np.uint8]:
    """Detect and align the faces of images and videos: crops (N, 112, 112, 3), N <= 1000.

    Raises ModelError when a file cannot be read.
    """
    detector = make_detector(DetectorConfig(), ClassifierConfig.threads)
    crops: list[NDArray[np.uint8]] = []
    try:
        for image in open_media(path):
            points_xy = detector.detect(image.image_rgb).points_xy
            crops += [*align(image.image_rgb, points_xy).crops_rgb]
            if len(crops) >= _MAX_FACES:
                break
    except MediaError as error:
        raise ModelError(str(error)) from None
    empty: NDArray[np.uint8] = np.zeros((0, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)
    return np.stack(crops[:_MAX_FACES]) if crops else empty


def _verified(folder: Path) -> ModelManifest | None:
    """The manifest if the weights match it; otherwise print the error to stderr."""
    try:
        manifest = read_manifest(folder)
        manifest.verify()
    except (ModelError, OSError) as error:
        print(f"fer: {error}", file=sys.stderr)
        return None
    return manifest


def _print_model(manifest: ModelManifest) -> None:
    size_mib = manifest.weights_path.stat().st_size / 2**20
    emotions = len(manifest.labels)
    print(f"{manifest.name}: {manifest.architecture}, {emotions} emotions, {size_mib:.1f} MiB")
    color = "grayscale" if manifest.input.grayscale else "RGB"
    print(f"  input {manifest.input.size_px} px, {color}")
    print(f"  {manifest.folder}, sha256 {manifest.sha256[:12]}... verified")


def _complexity_rows(manifests: list[ModelManifest]) -> list[tuple[str, ...]]:
    """A row for every network, and for ``two_stream`` with each backbone of PRETRAINED."""
    # imports PyTorch, which takes seconds
    from fer_ros.models import MODELS
    from fer_ros.models.complexity import complexity_of

    variants = [(name, "") for name in MODELS] + [("two_stream", name) for name in PRETRAINED]
    rows: list[tuple[str, ...]] = []
    for architecture, backbone in variants:
        cost = complexity_of(architecture, **{"image": backbone} if backbone else {})
        rows.append(
            (
                f"{architecture}, {backbone}" if backbone else architecture,
                f"{cost.parameters / 1e6:.1f} M",
                f"{cost.macs / 1e9:.2f}",
                f"{cost.side_px} px",
                _weights(architecture, backbone, manifests),
            )
        )
    return rows


def _weights(architecture: str, backbone: str, manifests: list[ModelManifest]) -> str:
    """Names of model folders; else whether pretrained weights are in the cache; "-" for none."""
    names = [
        manifest.folder.name
        for manifest in manifests
        if manifest.architecture == architecture and _pretrained_backbone(manifest) == backbone
    ]
    if names or not backbone:
        return ", ".join(names) or "-"
    return "downloaded" if PRETRAINED[backbone].path.is_file() else f"fetch {backbone}"


def _pretrained_backbone(manifest: ModelManifest) -> str:
    """The backbone if it is one of PRETRAINED, which have rows of their own."""
    backbone = str(manifest.config.get("image"))
    return backbone if backbone in PRETRAINED else ""


def _print_table(rows: list[tuple[str, ...]]) -> None:
    """Align numbers right and text left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers, weights in rows:
        aligned = map(str.rjust, numbers, widths[1:-1])
        print("  ".join([name.ljust(widths[0]), *aligned, weights]))
