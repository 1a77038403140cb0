"""Exported graphs in the cache folder, so that PyTorch is needed once only for each model."""

import hashlib
import json
import logging
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fer_ros.align import TEMPLATE_XY
from fer_ros.backends import BackendError, is_graph
from fer_ros.errors import one_line
from fer_ros.files import whole_file
from fer_ros.labels import EMOTIONS
from fer_ros.weights import ModelCard, ModelError, cache_folder

VERSION = 5
"""Of the exporter: graphs of other versions are not used."""

_log = logging.getLogger(__name__)


def is_blocked() -> bool:
    """Whether ONNX Runtime's convolutions work on blocks of channels here, as on x86 CPUs.

    Graphs for that are of other layers than those for GPUs and other CPUs, and compute the same.
    """
    return platform.machine().lower() in {"x86_64", "amd64"}


def path_of(card: ModelCard, blocked: bool) -> Path:
    """Where the graph of a model stands once it was exported; whatever its card says is in it."""
    said = {key: value for key, value in asdict(card).items() if key != "folder"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
    kind = "-blocked" if blocked else ""
    return cache_folder() / f"{card.sha256[:16]}-{digest[:16]}-v{VERSION}{kind}.onnx"


def graph_of(card: ModelCard, on_cpu: bool = True) -> bytes:
    """The graph of a model: its weights, or from the cache; made and kept there when it is not.

    ``on_cpu``: it is for the CPU of this machine. Raises ModelError when the model cannot be used,
    BackendError when it cannot be exported.
    """
    card.verify()
    if is_graph(card):
        return _shipped(card)
    blocked = on_cpu and is_blocked()
    path = path_of(card, blocked)
    return _kept(path) or _made(card, blocked, path)


def store(graph: bytes, path: Path) -> None:
    """Writes a graph and, beside it, its sha256; readers see all of it or nothing.

    Raises OSError.
    """
    replace_file(path, graph)
    replace_file(_digest_path(path), hashlib.sha256(graph).hexdigest().encode())


def _shipped(card: ModelCard) -> bytes:
    is_ours = card.labels == EMOTIONS and np.array_equal(card.template_xy, TEMPLATE_XY)
    if not is_ours:
        raise ModelError(f"{card.folder}: expected our labels and crop template, found others")
    return card.weights_path.read_bytes()


def _kept(path: Path) -> bytes | None:
    try:
        wanted = _digest_path(path).read_text(encoding="ascii")
        graph = path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("%s: cannot be read, the model is exported again: %s", path, error)
        return None
    if hashlib.sha256(graph).hexdigest() == wanted:
        return graph
    _log.warning("%s: not the file that was written, the model is exported again", path)
    return None


def _made(card: ModelCard, blocked: bool, path: Path) -> bytes:
    _log.info("model %s: exporting it once, to %s", card.name, path)
    graph = export(card, blocked)
    try:
        store(graph, path)
    except OSError as error:
        _log.warning(
            "%s: the exported model cannot be kept, each start will export it: %s; "
            "make room there, or name another folder in FER_ROS_CACHE",
            path,
            error.strerror or error,
        )
    return graph


def export(card: ModelCard, blocked: bool = False) -> bytes:
    """The graph of a model, as ``export_onnx`` makes it. Raises ModelError or BackendError."""
    if is_graph(card):
        raise ModelError(f"model {card.name}: {card.weights_path} is a graph already")
    try:
        from fer_ros.backends.export import export_onnx
    except ImportError as error:
        raise BackendError(f"exporting to ONNX needs PyTorch and onnx: {error}") from None
    try:
        return export_onnx(card, blocked)
    except RuntimeError as error:
        reason = one_line(error)
        raise BackendError(f"model {card.name} cannot be exported to ONNX: {reason}") from None


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def replace_file(path: Path, content: bytes) -> None:
    """Writes the whole file or, when killed meanwhile, leaves the old one. Raises OSError."""
    with whole_file(path) as file:
        file.write_bytes(content)
