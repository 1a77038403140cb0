"""Recordings whose bytes are damaged."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from bag_tools import STORAGE, TOPIC, raw_bag
from hypothesis import example, given
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionMode

from fer_ros.decode import ConversionError, UnknownEncodingError
from fer_ros.evaluation.bags import Bag, BagError, expected_images
from fuzz import only
from fuzz.images import damaged
from fuzz.settings import yaml_files

_METADATA = "metadata.yaml"


@cache
def _whole(storage: str, compressed: bool) -> dict[str, bytes]:
    """The files of a small recording."""
    images = [(k / 10, np.full((6, 8, 3), 40 * k, np.uint8)) for k in range(4)]
    mode = CompressionMode.MESSAGE if compressed else CompressionMode.NONE
    with tempfile.TemporaryDirectory() as folder:
        path = raw_bag(Path(folder) / "bag", images, storage=storage, compression=mode)
        return {file.name: file.read_bytes() for file in path.iterdir()}


@st.composite
def bags(draw: st.DrawFn) -> dict[str, bytes]:
    """The files of a recording, one of them damaged; the metadata may be missing."""
    files = dict(_whole(draw(st.sampled_from(sorted(STORAGE))), draw(st.booleans())))
    name = draw(st.sampled_from(sorted(files)))
    files[name] = draw(damaged(files[name]))
    if draw(st.booleans()):
        del files[_METADATA]
    return files


def _endless() -> dict[str, bytes]:
    """Its first record claims to be of 2**62 bytes."""
    files = _whole("mcap", False)
    (name,) = [each for each in files if each != _METADATA]
    length_at = 9  # behind the magic bytes and the kind of record
    content = files[name][:length_at] + (2**62).to_bytes(8, "little") + files[name][length_at + 8 :]
    return files | {name: content}


@given(bags())
@example(_endless())
def recording(files: dict[str, bytes]) -> None:
    """What is left of the images, with a line about what is not, or one why there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        assert expected_images(Path(folder), TOPIC) >= 0
        with only(BagError), Bag(folder) as bag:
            stamps = []
            for image in bag.images(bag.image_topic(None)):
                stamps.append(image.stamp_ns)
                with only(ConversionError, UnknownEncodingError):
                    assert image.decode()[0].ndim == 3
            assert stamps == sorted(stamps)
            assert [line for line in bag.troubles + bag.notes if len(line.splitlines()) != 1] == []


@given(yaml_files(st.just({"rosbag2_bagfile_information": {"topics_with_message_count": []}})))
def recording_metadata(content: bytes) -> None:
    """A recording whose metadata says something else."""
    recording.hypothesis.inner_test(_whole("mcap", False) | {_METADATA: content})
