"""The page of an evaluation, and the pictures on it."""

import base64
import re

import cv2
import numpy as np
import pytest

from training.figures import recall_png
from training.page import page
from training.scores import scores

FOUND = scores(np.eye(8, dtype=np.float32)[[0, 1, 1, 2]], np.array([0, 0, 1, 2]))


def decoded(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize(
    ("recall", "interval"), [({}, {}), ({"fear": None}, {"fear": [None, None]})]
)
def test_recalls_of_nothing_are_an_empty_picture(recall, interval):
    assert decoded(recall_png(recall, interval)).std(axis=2).max() == 0


def test_recalls_are_bars_in_their_colours():
    assert decoded(recall_png(FOUND["recall"], FOUND["recall_interval"])).std(axis=2).max() > 50


@pytest.mark.parametrize("names", [[], ["labels"], ["labels", "labels-flip"]])
def test_page_has_all_pictures_inside(names):
    about = {
        "model": {"name": "mine & <yours>", "sha256": 64 * "a"},
        "data": {"name": "faces", "faces": 4, "undecodable": 1, "faceless": 2},
    }
    text = page(about | dict.fromkeys(names, FOUND))
    assert "mine &amp; &lt;yours&gt;" in text
    assert "4 faces; left out were 2 pictures without a face and 1 undecodable" in text
    assert "http" not in text
    assert ("<table>" in text) == bool(names)
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 3 * len(names)
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        assert decoded(base64.b64decode(data)) is not None
    assert text.count("75.0% (25.0 to 100.0)") == len(names)
    assert text.count("50.0% (9.4 to 90.5)") == len(names)
