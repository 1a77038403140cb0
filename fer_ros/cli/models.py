"""``fer models``: models at hand, what every network costs, weights of others, exports."""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.align import align
from fer_ros.backends.graphs import export, is_blocked, path_of, store
from fer_ros.backends.onnx import OnnxBackend
from fer_ros.backends.providers import TENSORRT, engine_folder, gpu_name, tensorrt_version
from fer_ros.config import ClassifierConfig, DetectorConfig
from fer_ros.detect import make_detector
from fer_ros.fetch import PUBLISHED, fetch
from fer_ros.media import MediaError, open_media
from fer_ros.weights import ModelCard, ModelError, find_model, model_folders, read_card

_HEADING = ("network", "parameters", "GMAC per face", "input", "weights")
_LEAST_AGREEMENT = 0.98
_MOST_FACES = 1000


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to those of ``fer``."""
    parser = commands.add_parser(
        "models",
        help="what models are at hand",
        description="Lists the model folders at hand, verifies their weights, and says what every "
        "network costs: parameters, and billions of multiply-accumulates for one face.",
    )
    parser.set_defaults(run=_models)
    subcommands = parser.add_subparsers(title="commands")
    fetching = subcommands.add_parser(
        "fetch",
        help="download published weights",
        description="Downloads published weights of an image stream and verifies them. Nothing "
        "else in fer uses the network.",
    )
    fetching.add_argument("name", metavar="NAME", help=f"one of {', '.join(PUBLISHED)}")
    fetching.set_defaults(run=_fetch)
    exporting = subcommands.add_parser(
        "export",
        help="a model as one file for another runtime",
        description="onnx: one ONNX graph, from uint8 crops to points and probabilities, with its "
        "sha256 beside it. Without --out it goes where the node looks for it, which then starts "
        "without PyTorch. onnx-int8: a model folder with such a graph that computes in int8, for "
        "CPUs that are fast at that, calibrated on the faces in PATH. tensorrt: the engines, fp32 "
        "and fp16, that TensorRT builds for the first GPU of this machine, where ONNX Runtime "
        "looks for them.",
    )
    exporting.add_argument("name", metavar="NAME", help="a model at hand, or a model folder")
    exporting.add_argument(
        "--format",
        choices=["onnx", "onnx-int8", "tensorrt"],
        default="onnx",
        help="default: %(default)s",
    )
    exporting.add_argument(
        "--calibrate", metavar="PATH", type=Path, help="for int8: picture, video, or folder"
    )
    exporting.add_argument(
        "--out",
        metavar="PATH",
        type=Path,
        help="default: a file in the cache folder; of int8, the folder NAME_int8 here",
    )
    exporting.set_defaults(run=_export, parser=exporting)


def _models(arguments: argparse.Namespace) -> int:
    folders = model_folders()
    cards = [card for folder in folders if (card := _verified(folder))]
    for card in cards:
        _describe(card)
    if not folders:
        print("fer: no model folder is at hand: the installation is incomplete", file=sys.stderr)
    if cards:
        print()
    _print_table([_HEADING, *_costs(cards)])
    return 0 if folders and len(cards) == len(folders) else 1


def _fetch(arguments: argparse.Namespace) -> int:
    name = arguments.name
    path = fetch(name)
    print(f"{name}: {path}, sha256 {PUBLISHED[name].sha256[:12]}... as expected")
    print(f"To train a two_stream network from it, one whose image stream is {name}:")
    print(f"  python -m training.train CONFIG DATA OUT --image-weights {shlex.quote(str(path))}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    if (arguments.format == "onnx-int8") != bool(arguments.calibrate):
        arguments.parser.error("--calibrate PATH and --format onnx-int8 go together")
    card = read_card(find_model(arguments.name))
    if arguments.format == "tensorrt":
        return _build_engines(card)
    if arguments.calibrate:
        return _export_int8(card, arguments)
    blocked = is_blocked() and not arguments.out  # what goes elsewhere is for any machine
    graph, path = export(card, blocked), arguments.out or path_of(card, blocked)
    store(graph, path)
    print(f"{card.name}: {path}, {len(graph) / 2**20:.1f} MiB")
    return 0


def _build_engines(card: ModelCard) -> int:
    """As the first start of the node would, with each ``classifier.precision``."""
    for precision in ("fp32", "fp16"):
        backend = OnnxBackend(card, "cuda", precision=precision)
        if backend.provider != TENSORRT:
            raise ModelError(f"{card.name}: ONNX Runtime does not start TensorRT on this machine")
        backend.run(np.zeros((1, 112, 112, 3), np.uint8))
    print(f"{card.name}: {engine_folder(card, gpu_name(0), tensorrt_version())}")
    return 0


def _export_int8(card: ModelCard, arguments: argparse.Namespace) -> int:
    """Kept when nearly all faces of the calibration are answered as before."""
    from fer_ros.backends.quantize import agreement, quantize, save_quantized

    crops_rgb, graph = faces_in(arguments.calibrate), export(card, is_blocked())
    quantized = quantize(graph, crops_rgb)
    same = agreement(graph, quantized, crops_rgb)
    if same < _LEAST_AGREEMENT:
        raise ModelError(
            f"{card.name}: in int8 it answers {same:.1%} of {len(crops_rgb)} faces as before, "
            f"expected {_LEAST_AGREEMENT:.0%}: calibrate it on more faces, of the kind it will see"
        )
    saved = save_quantized(card, quantized, arguments.out or Path(f"{card.name}_int8"))
    size_mib = len(quantized) / 2**20
    print(f"{saved.name}: {saved.folder}, {size_mib:.1f} MiB")
    print(f"  answers {same:.1%} of {len(crops_rgb)} faces as {card.name} does")
    return 0


def faces_in(path: Path) -> NDArray[np.uint8]:
    """Crops (N, 112, 112, 3) of the faces that the detector finds in pictures and videos.

    N is at most 1000. Raises ModelError when a file cannot be read.
    """
    detector = make_detector(DetectorConfig(), ClassifierConfig.threads)
    found: list[NDArray[np.uint8]] = []
    try:
        for image in open_media(path):
            found += [*align(image.image_rgb, detector.detect(image.image_rgb).points_xy).crops_rgb]
            if len(found) >= _MOST_FACES:
                break
    except MediaError as error:
        raise ModelError(str(error)) from None
    return np.stack(found[:_MOST_FACES]) if found else np.zeros((0, 112, 112, 3), np.uint8)


def _verified(folder: Path) -> ModelCard | None:
    """The card, when the weights are the ones that it names; else says on stderr what is wrong."""
    try:
        card = read_card(folder)
        card.verify()
    except (ModelError, OSError) as error:
        print(f"fer: {error}", file=sys.stderr)
        return None
    return card


def _describe(card: ModelCard) -> None:
    size_mib = card.weights_path.stat().st_size / 2**20
    print(f"{card.name}: {card.architecture}, {len(card.labels)} emotions, {size_mib:.1f} MiB")
    colours = "grey" if card.input.luma else "colour"
    print(f"  sees faces at {card.input.size_px} px in {colours}")
    print(f"  {card.folder}, sha256 {card.sha256[:12]}... as its card says")


def _costs(cards: list[ModelCard]) -> list[tuple[str, ...]]:
    """A row for every network, and for the two-stream network with each stream of PUBLISHED."""
    # bring torch, which takes seconds: not for other commands
    from fer_ros.model import MODELS
    from fer_ros.model.cost import cost_of

    variants = [(name, "") for name in MODELS] + [("two_stream", stream) for stream in PUBLISHED]
    rows: list[tuple[str, ...]] = []
    for architecture, stream in variants:
        cost = cost_of(architecture, **{"image": stream} if stream else {})
        rows.append(
            (
                f"{architecture}, {stream}" if stream else architecture,
                f"{cost.parameters / 1e6:.1f} M",
                f"{cost.macs / 1e9:.2f}",
                f"{cost.side_px} px",
                _weights(architecture, stream, cards),
            )
        )
    return rows


def _weights(architecture: str, stream: str, cards: list[ModelCard]) -> str:
    """Names of model folders; else what the cache has, or how to get it; ``-`` for none."""
    found = [
        card.folder.name
        for card in cards
        if card.architecture == architecture and _stream(card) == stream
    ]
    if found or not stream:
        return ", ".join(found) or "-"
    return "fetched" if PUBLISHED[stream].path.is_file() else f"fetch {stream}"


def _stream(card: ModelCard) -> str:
    """The image stream, when it is one of PUBLISHED: those have a row of their own."""
    stream = str(card.config.get("image"))
    return stream if stream in PUBLISHED else ""


def _print_table(rows: list[tuple[str, ...]]) -> None:
    """Figures to the right, words to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *figures, weights in rows:
        right = map(str.rjust, figures, widths[1:-1])
        print("  ".join([name.ljust(widths[0]), *right, weights]))
