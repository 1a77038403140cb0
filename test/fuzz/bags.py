"""Recordings whose bytes are damaged."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from bag_tools import STORAGE, TOPIC, at, raw_bag, with_checksums
from hypothesis import example, given
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionMode

from fer_ros.evaluation.bags.reader import Bag, BagError, expected_images
from fer_ros.io.image_decoding import ConversionError, UnknownEncodingError
from fuzz import only
from fuzz.damage import damaged
from fuzz.settings import yaml_files

_METADATA = "metadata.yaml"


_GRAYS = (0, 40, 80, 120)
_NO_METADATA = "its files are read without it"  # says nothing about images


@cache
def _whole(storage: str, compressed: bool) -> dict[str, bytes]:
    """The files of a small recording."""
    images = [(k / 10, np.full((6, 8, 3), gray, np.uint8)) for k, gray in enumerate(_GRAYS)]
    mode = CompressionMode.MESSAGE if compressed else CompressionMode.NONE
    with tempfile.TemporaryDirectory() as folder:
        path = raw_bag(Path(folder) / "bag", images, storage=storage, compression=mode)
        files = {file.name: file.read_bytes() for file in path.iterdir()}
    return {
        name: with_checksums(content) if name.endswith(".mcap") else content
        for name, content in files.items()
    }


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
    (name,) = [file for file in files if file != _METADATA]
    length_at = 9  # after the magic bytes and the kind of record
    content = files[name][:length_at] + (2**62).to_bytes(8, "little") + files[name][length_at + 8 :]
    return files | {name: content}


def _wrong_pixel() -> dict[str, bytes]:
    """One byte of an image is another one."""
    files = _whole("mcap", False)
    (name,) = [file for file in files if file != _METADATA]
    place = files[name].index(bytes([_GRAYS[1]] * 9))
    return files | {name: files[name][:place] + b"\0" + files[name][place + 1 :]}


@given(bags())
@example(_whole("mcap", False))
@example(_endless())
@example(_wrong_pixel())
def recording(files: dict[str, bytes]) -> None:
    """All images are there, in order and right, or a line says what is not.

    SQLite has no checksums: what its images show, and which of them there were when the metadata
    is gone as well, cannot be known.
    """
    is_mcap = any(name.endswith(".mcap") for name in files)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        assert expected_images(Path(folder), TOPIC) >= 0
        with only(BagError), Bag(folder) as bag:
            images = list(bag.images(bag.image_topic(None)))
            for image in images:
                with only(ConversionError, UnknownEncodingError):
                    assert image.decode()[0].ndim == 3
            times = [image.time_ns for image in images]
            assert times == sorted(times)
            lines = bag.errors + bag.warnings
            assert [line for line in lines if len(line.splitlines()) != 1] == []
            if any(not is_mcap or _NO_METADATA not in line for line in lines):
                return  # reported
            assert len(images) == len(_GRAYS), "images are missing in silence"
            if is_mcap:
                shown = [(image.stamp_ns, image.decode()[0].mean()) for image in images]
                assert shown == [(at(k / 10), gray) for k, gray in enumerate(_GRAYS)]


@given(yaml_files(st.just({"rosbag2_bagfile_information": {"topics_with_message_count": []}})))
def recording_metadata(content: bytes) -> None:
    """A recording whose metadata says something else."""
    recording.hypothesis.inner_test(_whole("mcap", False) | {_METADATA: content})
