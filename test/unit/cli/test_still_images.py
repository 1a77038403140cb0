"""Still images are searched whole, for faces of all sizes, each independently of the others."""

import json

import cv2
import numpy as np
import pytest

from fer_ros import cli

HEIGHTS_PX = (400, 240, 160, 96, 64, 40, 32, 24)
HEAD = np.s_[20:220, 126:326]  # of the portrait; its face is 120 px high


@pytest.fixture
def image(astronaut, tmp_path):
    """An image of 3840x2160 with a face of each height, on tiles that touch the upper border."""
    image_rgb = np.full((2160, 3840, 3), 120, np.uint8)
    x = 40
    for height in HEIGHTS_PX:
        side = round(height * 200 / 120)
        tile = cv2.resize(astronaut[HEAD], (side, side), interpolation=cv2.INTER_AREA)
        image_rgb[60 : 60 + side, x : x + side] = tile
        x += side + 40
    path = tmp_path / "sizes.png"
    cv2.imwrite(str(path), image_rgb[..., ::-1])
    return path


def test_all_faces_of_each_image_are_detected(image, capsys, monkeypatch, fake_classifier):
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: fake_classifier)
    assert cli.main(["analyze", str(image), str(image)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == 2
    for record in records:
        boxes = [face["box"] for face in record["faces"]]
        heights = sorted((box[3] - box[1] for box in boxes), reverse=True)
        np.testing.assert_allclose(heights, HEIGHTS_PX, rtol=0.2)
