"""Read ONNX files of detectors, check their shapes, and make their input size dynamic."""

from pathlib import Path
from typing import TYPE_CHECKING

from fer_ros.detectors.base import DetectorError
from fer_ros.inference.model_store import sha256_of
from fer_ros.io.path_kind import FILE, path_kind

if TYPE_CHECKING:
    import onnx


def existing_file(model_path: str) -> Path:
    """Return the path of a file of the settings. Raises DetectorError if it is no file."""
    path = Path(model_path).expanduser()
    kind = path_kind(path)
    if kind != FILE:
        found = f"expected an ONNX file, found {kind}" if kind else "no such file"
        raise DetectorError(
            f"detector.model_path: {path}: {found}; correct the path or leave it empty"
        )
    return path


def verify_file(path: Path, sha256: str, remedy: str) -> Path:
    """Return a published file; DetectorError, with ``remedy``, if it is another one or missing."""
    found = sha256_of(path) if path.is_file() else "no file"
    if found != sha256:
        raise DetectorError(
            f"{path}: expected the file with sha256 {sha256[:12]}, found {found[:12]}: {remedy}"
        )
    return path


def load_onnx(path: Path) -> "onnx.ModelProto":
    """Load an ONNX file. Raises DetectorError for any other file."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except DecodeError:
        raise DetectorError(f"detector model {path}: not an ONNX file") from None


def value_channels(model: "onnx.ModelProto") -> list[int | None]:
    """Return the second dimension of each 4-D input and output; None for other ranks."""
    shapes = [_dimensions(value) for value in _inputs_and_outputs(model)]
    return [shape[1].dim_value if len(shape) == 4 else None for shape in shapes]


def make_input_dynamic(model: "onnx.ModelProto", axes: tuple[int, ...]) -> "onnx.ModelProto":
    """Make ``axes`` of input and outputs dynamic; published files may declare one fixed size."""
    images = _images(model)
    for value in _inputs_and_outputs(model):
        shape = _dimensions(value)
        for axis in axes:
            if axis < len(shape):
                shape[axis].dim_param = f"{value.name}_{axis}"
    del model.graph.input[:]
    model.graph.input.extend(images)
    del model.graph.value_info[:]
    return model


def _images(model: "onnx.ModelProto") -> "list[onnx.ValueInfoProto]":
    """Inputs without the weights, which old files list among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _inputs_and_outputs(model: "onnx.ModelProto") -> "list[onnx.ValueInfoProto]":
    return [*_images(model), *model.graph.output]


def _dimensions(value: "onnx.ValueInfoProto") -> "list[onnx.TensorShapeProto.Dimension]":
    return list(value.type.tensor_type.shape.dim)
