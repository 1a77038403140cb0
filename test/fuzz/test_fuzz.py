"""Some cases of every property in fuzz/, always the same ones, and bombs."""

import os
import subprocess
import sys

import pytest

from fuzz.images import bombs
from fuzz.properties import PROPERTIES

MAX_MB = 100


@pytest.mark.parametrize("name", PROPERTIES)
def test_any_input_gives_a_valid_result_or_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PROPERTIES[name]()
    assert list(tmp_path.iterdir()) == []  # where a pickle would leave its mark


# Reads the image in its input, as a message and as a file; says what it took.
READER = """
import resource, sys, tempfile
from types import SimpleNamespace
import fer_ros
from fer_ros.io.image_decoding import ConversionError, decode_compressed
from fer_ros.io.media import MediaError, open_media
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
data, before = sys.stdin.buffer.read(), peak_mb()
with tempfile.NamedTemporaryFile(suffix=".png") as file:
    file.write(data)
    file.flush()
    for read in (
        lambda: decode_compressed(SimpleNamespace(format="png", data=data)),
        lambda: list(open_media(file.name)),
    ):
        try:
            print("read", read())
        except (ConversionError, MediaError) as error:
            print("refused:", error)
print(round(peak_mb() - before))
"""


@pytest.mark.parametrize("side", [16_000, 50_000])
@pytest.mark.parametrize("kind", bombs(8))
def test_a_decompression_bomb_is_refused_before_memory_is_allocated(kind, side):
    bomb = bombs(side)[kind]
    assert len(bomb) < 2000
    variables = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV_")}
    command = [sys.executable, "-c", READER]
    done = subprocess.run(command, input=bomb, capture_output=True, env=variables)
    message, file, grown_mb = done.stdout.decode().splitlines()
    assert message.startswith("refused:"), message
    assert file.startswith("refused:"), file
    assert int(grown_mb) < MAX_MB
