"""Outputs of ``fer analyze``: what they must not overwrite, and what an interruption leaves."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tree import ROOT

from fer_ros import cli
from fer_ros.io.media import MediaImage

pytestmark = pytest.mark.usefixtures("quick")
FER = [sys.executable, "-m", "fer_ros.entry_points", "fer"]


@pytest.fixture
def quick(monkeypatch, fake_classifier):
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: fake_classifier)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "a_faces.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((90, 120, 3), 128, np.uint8))
    return folder


def analyze(*arguments) -> int:
    return cli.main(["analyze", *map(str, arguments)])


def usage_error(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        analyze(*arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_an_analyzed_file_is_no_output(capsys, photos):
    before = (photos / "a.png").read_bytes()
    (photos / "link").symlink_to("a.png")
    for out in (photos / "a.png", photos / "link"):
        assert "is analyzed; name another" in usage_error(capsys, photos, "--json", out)
    assert (photos / "a.png").read_bytes() == before


def test_annotated_images_do_not_go_into_an_analyzed_folder(capsys, photos):
    for folder in (photos, photos / "deep" / "er"):
        errors = usage_error(capsys, photos, "--save-annotated", folder)
        assert f"is in the analyzed folder {photos}" in errors
    assert len(list(photos.iterdir())) == 3


def test_annotated_images_do_not_replace_analyzed_files(photos):
    sources = [photos / "a.png", photos / "a_faces.png"]
    before = [source.read_bytes() for source in sources]
    assert analyze(*sources, "--save-annotated", photos) == 0
    assert [source.read_bytes() for source in sources] == before
    assert {path.name for path in photos.iterdir()} == {
        *("a.png", "a_faces.png", "b.png"),
        *("a_faces_2.png", "a_faces_faces.png"),
    }


def test_annotated_images_may_have_any_name(photos, tmp_path):
    name = os.fsdecode(b"x\xff")
    source = (photos / "a.png").rename(photos / f"{name}.png")
    assert analyze(source, "--save-annotated", tmp_path / name) == 0
    assert [path.name for path in (tmp_path / name).iterdir()] == [f"{name}_faces.png"]


@pytest.mark.parametrize("arguments", [["", "--json", "OUT"], ["PHOTOS", "--json", ""]])
def test_an_empty_path_is_wrong_usage(capsys, photos, tmp_path, arguments):
    names = {"OUT": tmp_path / "out.jsonl", "PHOTOS": photos}
    errors = usage_error(capsys, *(names.get(argument, argument) for argument in arguments))
    assert "expected a path, found an empty text" in errors


class Interrupted:
    """Ends the analysis at the third image."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.count = 0

    def __call__(self, name, stamp_s, faces):
        self.count += 1
        if self.count == 3:
            raise self.error
        return {"source": name}


def test_the_lines_of_a_stream_are_in_the_file_at_any_time(capsys, monkeypatch, tmp_path):
    image = MediaImage("camera", 0.0, np.full((90, 120, 3), 128, np.uint8))
    monkeypatch.setattr("fer_ros.cli.analyze.read_stream", lambda _: iter([image] * 9))
    monkeypatch.setattr("fer_ros.cli.analyze.frame_record", Interrupted(KeyboardInterrupt()))
    out = tmp_path / "o.jsonl"
    assert analyze("rtsp://camera", "--json", out) == 130
    assert "fer: interrupted after 2 images\n" in capsys.readouterr().err
    assert out.read_text().count("\n") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["o.jsonl"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "disk is full")])
def test_complete_lines_are_kept(capsys, monkeypatch, photos, tmp_path, error):
    out, partial = tmp_path / "o.jsonl", tmp_path / f"o.jsonl.{os.getpid()}.partial"
    out.write_text("results of an earlier run\n")
    monkeypatch.setattr("fer_ros.cli.analyze.frame_record", Interrupted(error))
    code = analyze(photos, "--json", out)
    errors = capsys.readouterr().err
    assert f"fer: {out}: incomplete: its first 2 lines are in {partial}\n" in errors
    is_interrupted = isinstance(error, KeyboardInterrupt)
    full = f"fer: {out}: disk is full; free disk space or write to another disk\n"
    assert ("fer: interrupted after 2 images\n" if is_interrupted else full) in errors
    assert errors.count("\n") == 2
    assert code == (130 if is_interrupted else 1)
    assert out.read_text() == "results of an earlier run\n"
    assert len([json.loads(line) for line in partial.read_text().splitlines()]) == 2


def test_a_link_remains_a_link(photos, tmp_path):
    link, out = tmp_path / "link.jsonl", tmp_path / "o.jsonl"
    link.symlink_to(out)
    assert analyze(photos, "--json", link) == 0
    assert (link.is_symlink(), len(out.read_text().splitlines())) == (True, 3)
    assert list(tmp_path.glob("*.partial")) == []


def test_sigterm_keeps_complete_lines(photos, tmp_path):
    os.mkfifo(tmp_path / "results")
    command = [*FER, "analyze", *[str(photos)] * 50, "--json", str(tmp_path / "results")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        with (tmp_path / "results").open() as results:
            results.readline()
            process.terminate()
            lines = 1 + len(results.readlines())
        assert process.stderr
        counts = (lines - 1, lines)  # the signal may come just before a line is counted
        expected = [f"fer: interrupted after {count} images\n" for count in counts]
        assert process.stderr.read() in expected
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("redirections", "code", "words"),
    [
        (">&-", 1, "fer: stdout is closed: redirect it, or use --json OUT.jsonl\n"),
        ("2>&-", 0, ""),
        ("> /dev/full", 1, "fer: stdout: No space left on device; free disk space or write to"),
        (">&- --json OUT", 0, ""),
        (">&- 2>&- --json OUT", 0, ""),
    ],
)
def test_closed_and_full_streams(photos, tmp_path, redirections, code, words):
    shell = f'"$@" {redirections.replace("OUT", str(tmp_path / "o.jsonl"))}'
    command = ["sh", "-c", shell, "fer", *FER, "analyze", str(photos / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith(words)) == (code, True), done.stderr
    assert done.stderr.count("\n") == bool(words)
    assert done.stdout.count("\n") == (redirections == "2>&-")


def test_warnings_of_the_library_look_like_errors_of_the_command(capsys, monkeypatch, photos):
    def warn(*arguments):
        logging.getLogger("fer_ros.classifier").warning("not %s", "stored")
        return {}

    monkeypatch.setattr("fer_ros.cli.analyze.frame_record", warn)
    assert analyze(photos / "a.png") == 0
    assert capsys.readouterr().err == "fer: not stored\n"
