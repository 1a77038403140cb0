"""The demonstration, as ``make demo`` runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tree import ROOT

from fer_ros.emotions import EMOTIONS
from fer_ros.ros.tools.demo import main


def demo(out: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "fer_ros.ros.tools.demo",
        "--out",
        str(out),
        *map(str, arguments),
    ]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )


def test_the_demo_prints_emotions_and_writes_images_and_results(tmp_path):
    done = demo(tmp_path)
    output = done.stdout
    assert done.returncode == 0, output + done.stderr
    assert "f00001  happiness" in output
    assert "150 published" in output
    for stage in ("detect", "track", "align", "classify", "smooth", "total"):
        assert f"\n{stage} " in output

    lines = [json.loads(line) for line in (tmp_path / "emotions.jsonl").read_text().splitlines()]
    stamps = [line["stamp_s"] for line in lines]
    assert stamps == sorted(stamps)
    faces = [face for line in lines for face in line["faces"]]
    assert faces
    assert [] in [line["faces"] for line in lines]
    for face in faces:
        assert face["id"].startswith("f")
        assert len(face["box"]) == 4
        assert set(face["probabilities"]) == set(EMOTIONS)
    shapes = [np.shape(face["landmarks"] or ()) for face in faces]
    assert set(shapes) <= {(68, 2), (0,)}
    assert shapes.count((68, 2)) > len(shapes) / 2  # best effort: a busy machine may lose some

    sheet = cv2.imread(str(tmp_path / "annotated.png"))
    assert sheet.shape == (3 * 360, 4 * 480, 3)
    assert sheet.std() > 20


def test_images_without_a_face_fail_with_a_reason(tmp_path):
    wall = tmp_path / "wall.png"
    cv2.imwrite(str(wall), np.full((120, 160, 3), 128, np.uint8))
    done = demo(tmp_path / "out", "--camera", wall)
    assert done.returncode == 1
    assert done.stderr.strip() == f"demo: no results: no face in the images of {wall} is readable"


def test_a_missing_camera_fails_with_a_reason(tmp_path):
    done = demo(tmp_path / "out", "--camera", "no/such.mp4")
    assert done.returncode == 1
    assert "demo: the media publisher failed: no/such.mp4: no such file or folder" in done.stderr


def test_an_uncreatable_folder_is_reported_in_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--cam", "0", "--no-such"])
    assert ended.value.code == 2
