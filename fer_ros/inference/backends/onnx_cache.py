"""Cache of exported ONNX graphs, so that PyTorch is needed once per model only."""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

from fer_ros.inference.backends import BackendError
from fer_ros.inference.devices import TORCH_IMPORT_ERRORS, is_x86
from fer_ros.inference.model_store import (
    ModelError,
    ModelManifest,
    cache_folder,
    check_conventions,
    is_onnx_model,
)
from fer_ros.io.atomic_write import atomic_write
from fer_ros.io.errors import single_line

GRAPH_INPUT = "crops_rgb"
"""Name of the exported graph's only input."""

WEIGHT_BITS = "weight_bits"
"""Metadata key of int8 graphs: bits that their weights use."""

EXPORT_VERSION = 6
"""Version of the exporter; graphs of other versions are not used."""

_log = logging.getLogger(__name__)


def uses_nchwc_layout() -> bool:
    """Whether ONNX Runtime convolves in its blocked NCHWc layout here, as on x86 CPUs.

    Graphs for it avoid layers that the layout lacks; they compute the same as other graphs.
    """
    return is_x86()


def cache_path(manifest: ModelManifest, nchwc: bool) -> Path:
    """Path of the exported graph; depends on all of the manifest that the graph contains."""
    values = asdict(manifest)
    for key in ("folder", "priors", "quantized_from", "settings_sha256"):
        del values[key]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
    suffix = "-nchwc" if nchwc else ""
    name = f"{manifest.short_sha256}-{digest[:16]}-v{EXPORT_VERSION}{suffix}.onnx"
    return cache_folder() / name


def load_or_export(manifest: ModelManifest, on_cpu: bool = True) -> bytes:
    """Load a model's graph: its weights file, the cached export, or a new export.

    Args:
        manifest: the model.
        on_cpu: whether the graph is for the CPU of this machine.

    Raises:
        ModelError: the model cannot be used.
        BackendError: it cannot be exported.
    """
    if is_onnx_model(manifest):
        check_conventions(manifest)
    manifest.verify()
    if is_onnx_model(manifest):
        return manifest.weights_path.read_bytes()
    nchwc = on_cpu and uses_nchwc_layout()
    path = cache_path(manifest, nchwc)
    return load_graph(path) or _export_and_cache(manifest, nchwc, path)


def store_graph(graph: bytes, path: Path) -> None:
    """Write a graph and, beside it, its sha256, atomically. Raises OSError."""
    replace_file(path, graph)
    replace_file(_digest_path(path), hashlib.sha256(graph).hexdigest().encode())


def load_graph(path: Path) -> bytes | None:
    """Read a graph of ``store_graph``; None if there is none or, with a warning, a damaged one."""
    try:
        expected = _digest_path(path).read_text(encoding="ascii")
        graph = path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("%s: cannot be read, making it again: %s", path, error)
        return None
    if hashlib.sha256(graph).hexdigest() == expected:
        return graph
    _log.warning("%s: wrong sha256, making it again", path)
    return None


def export_graph(manifest: ModelManifest, nchwc: bool = False) -> bytes:
    """Export a model with ``export_onnx``. Raises ModelError or BackendError."""
    if is_onnx_model(manifest):
        raise ModelError(f"model {manifest.name}: {manifest.weights_path} is an ONNX graph already")
    try:
        from fer_ros.inference.backends.onnx_export import export_onnx
    except TORCH_IMPORT_ERRORS as error:
        reason = single_line(error)
        raise BackendError(f"exporting to ONNX needs PyTorch and onnx: {reason}") from None
    try:
        return export_onnx(manifest, nchwc)
    except RuntimeError as error:
        reason = single_line(error)
        raise BackendError(f"model {manifest.name} cannot be exported to ONNX: {reason}") from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises OSError."""
    with atomic_write(path) as file:
        file.write_bytes(content)


def _export_and_cache(manifest: ModelManifest, nchwc: bool, path: Path) -> bytes:
    _log.info("model %s: exporting to %s", manifest.name, path)
    graph = export_graph(manifest, nchwc)
    try:
        store_graph(graph, path)
    except OSError as error:
        _log.warning(
            "%s: the exported model cannot be stored and will be exported at each start: %s; "
            "name a writable folder with free space in FER_ROS_CACHE",
            path,
            error.strerror or error,
        )
    return graph


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
