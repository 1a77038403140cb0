"""Model folders: invalid manifests and weights files."""

import io
import json
import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from fer_ros.emotions import EMOTIONS
from fer_ros.inference.model_store import (
    MANIFEST_FILE,
    ModelError,
    check_conventions,
    read_manifest,
)
from fer_ros.models.checkpoint import read_state
from fer_ros.types import TEMPLATE_XY
from fuzz import only
from fuzz.damage import damaged
from fuzz.settings import ANYTHING, BAD_YAML, yaml_files

MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "mine",
    "architecture": "two_stream_small",
    "weights": "weights.safetensors",
    "sha256": "0" * 64,
    "config": {},
    "labels": list(EMOTIONS),
    "input": {"size_px": 112, "grayscale": True, "mean": [0.5] * 3, "std": [0.5] * 3},
    "template_xy": TEMPLATE_XY.tolist(),
    "temperature": 1.0,
}
_STATE = {"weight": torch.zeros(2, 3), "count": torch.zeros((), dtype=torch.int64)}


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    """A manifest that is right, or wrong in some of its keys."""
    manifest = dict(MANIFEST)
    for key in draw(st.lists(st.sampled_from(sorted(MANIFEST)), max_size=2)):
        manifest[key] = draw(ANYTHING)
    if draw(st.booleans()):
        manifest["input"] = MANIFEST["input"] | {
            draw(st.sampled_from(sorted(MANIFEST["input"]))): draw(ANYTHING)
        }
    if draw(st.booleans()):
        manifest.pop(draw(st.sampled_from(sorted(manifest))), None)
    return manifest


def _manifest(**changes: Any) -> bytes:
    return yaml.safe_dump(MANIFEST | changes).encode()


@given(yaml_files(manifests()))
@example(b"")
@example(_manifest())
@example(_manifest(name="größer"))
@example(_manifest(temperature=10**400))
@example(_manifest(temperature=float("inf")))
@example(_manifest(labels=list(range(8))))
@example(_manifest(sha256="0\n0"))
@example(_manifest(weights="../../../weights.safetensors"))
@example(_manifest(weights="a\nb"))
@example(_manifest(input=MANIFEST["input"] | {"std": [float("nan")] * 3}))
@example(_manifest(input=MANIFEST["input"] | {"mean": [10**400] * 3}))
@example(BAD_YAML[2])
@example(BAD_YAML[-1])
def model_manifest(content: bytes) -> None:
    """A manifest is read, fits this package and names a file of its folder, or is refused."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST_FILE).write_bytes(content)
        with only(ModelError):
            manifest = read_manifest(Path(folder))
            check_conventions(manifest)
            assert manifest.weights_path.parent == Path(folder)
            assert min(manifest.input.std) > 0
            assert 0 < manifest.temperature < float("inf")
            manifest.verify()


class Malicious:
    """Creates a file in the working folder when a pickle of it is opened."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (open, ("pickle_was_opened", "w"))  # type: ignore[return-value]


def pickled() -> bytes:
    """What torch.save makes of it."""
    file = io.BytesIO()
    torch.save({"weight": Malicious()}, file)
    return file.getvalue()


def _with_header(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A safetensors file with entries that need not fit its data."""
    place = st.integers(-1, 2**64) | st.integers(0, 64)
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(
                ["F16", "F32", "F64", "BF16", "I64", "U8", "BOOL", "F4", "F8_E4M3", "C64", "X"]
            ),
            "shape": st.lists(place, max_size=3),
            "data_offsets": st.lists(place, min_size=1, max_size=3),
        }
    )
    names = st.sampled_from(["weight", "count", "__metadata__"]) | st.text(max_size=6)
    header = draw(st.dictionaries(names, entry | ANYTHING.filter(_is_json), max_size=3))
    length = draw(st.none() | st.integers(0, 2**64 - 1) | st.integers(0, 200))
    return _with_header(header, draw(st.binary(max_size=64)), length)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


@given(damaged(save(_STATE)) | headers() | st.binary(max_size=64))
@example(b"")
@example(save(_STATE))
@example(pickled())
@example(pickle.dumps(Malicious()))
@example(_with_header({}, length=2**63))
@example(_with_header({"weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 2**60]}}))
@example(_with_header({"weight": {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]}}))
@example(save({**_STATE, "weight": torch.zeros(2, 3, dtype=torch.int8)}))
@example(save({**_STATE, "weight\n": torch.zeros(2, 3)}))
def weights_file(content: bytes) -> None:
    """A weights file holds the tensors that the network needs, or is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        path.write_bytes(content)
        with only(ModelError):
            state = read_state(path, _STATE, "mine")
            assert {name: value.shape for name, value in state.items()} == {
                name: value.shape for name, value in _STATE.items()
            }
            assert state["weight"].is_floating_point()
