"""The HTML page of an evaluation and its images."""

import base64
import re

import cv2
import numpy as np
import pytest

from training.metrics.classification import scores
from training.reports.html import page
from training.reports.plots import recall_png

SCORES = scores(np.eye(8, dtype=np.float32)[[0, 1, 1, 2]], np.array([0, 0, 1, 2]))


def decoded(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize(
    ("recall", "interval"), [({}, {}), ({"fear": None}, {"fear": [None, None]})]
)
def test_no_recall_is_an_empty_plot(recall, interval):
    assert decoded(recall_png(recall, interval)).std(axis=2).max() == 0


def test_recalls_are_bars_in_the_colors_of_the_emotions():
    assert decoded(recall_png(SCORES["recall"], SCORES["recall_interval"])).std(axis=2).max() > 50


@pytest.mark.parametrize("names", [[], ["labels"], ["labels", "labels-flip"]])
def test_page_embeds_all_images(names):
    header = {
        "model": {"name": "mine & <yours>", "sha256": 64 * "a"},
        "data": {"name": "faces", "faces": 4, "undecodable": 1, "undetected": 2},
    }
    text = page(header | dict.fromkeys(names, SCORES))
    assert "mine &amp; &lt;yours&gt;" in text
    words = " ".join(text.split())
    assert "4 faces; excluded: 2 images without a face and 1 undecodable" in words
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


def test_page_of_landmarks_alone():
    landmarks = {"images": 3, "mean_nme": 0.0312, "median_nme": 0.029, "p95_nme": 0.071}
    header = {
        "model": {"name": "mine", "sha256": 64 * "a"},
        "data": {"name": "faces", "faces": 3, "undecodable": 0, "undetected": 0},
    }
    words = " ".join(page(header | {"landmarks": landmarks}).split())
    assert "mean 3.12%, median 2.90%, 95th percentile 7.10%" in words
    assert "NME" not in page(header | {"landmarks": landmarks | {"mean_nme": None}})
