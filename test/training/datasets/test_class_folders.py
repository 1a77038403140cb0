"""Class folders as people name them, numbered ones, and FER2013's table."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_tools import write_lines

from fer_ros.emotions import EMOTIONS
from training.datasets.readers.registry import open_source
from training.datasets.records import SourceRequest

IMAGE = cv2.imencode(".png", np.full((8, 6, 3), 90, np.uint8))[1].tobytes()


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGE)


def folders(top: Path) -> Path:
    draw(top / "happy" / "1.jpg", top / "happy" / "2.png", top / "Anger" / "1.jpg")
    return top


def fer2013_with(line: str):
    def make(top: Path) -> Path:
        return write_lines(top / "fer2013.csv", "emotion,pixels,Usage", line)

    return make


def class_folders(*names: str):
    def make(top: Path) -> Path:
        draw(*(top / name / "1.png" for name in names))
        return top

    return make


def only_heic(top: Path) -> Path:
    (top / "phone.HEIC").write_bytes(b"ftypheic")
    return top


# what is wrong, words of the message
ERRORS = (
    (fer2013_with(f"7,{'0 ' * 2304},Training"), "fer2013.csv:2: expected an emotion of 0 to 6"),
    (
        fer2013_with(f"0,{'0 ' * 2303},Training"),
        "expected 2304 pixels from 0 to 255, found 2303",
    ),
    (fer2013_with(f"0,{'256 ' * 2304},Training"), "fer2013.csv:2: expected 2304 pixels from 0"),
    (fer2013_with(f"0,{'0 ' * 2304},Later"), "expected Training, PublicTest or PrivateTest"),
    (class_folders("0", "6"), "class folders 0, 6 do not determine the emotions"),
    (
        class_folders(*"0123456"),
        "name the numbering with --numbering (affectnet, fer2013, rafdb)",
    ),
    (
        class_folders("bored", "drunk"),
        "expected class folders named as emotions, found 'bored', 'drunk'",
    ),
    (class_folders("bored", "drunk"), "--kind faces"),
    (only_heic, "expected images, found 1 unsupported .heic file"),
)


@pytest.mark.parametrize(("make", "words"), ERRORS)
def test_errors_are_reported_in_one_line(tmp_path, make, words):
    with pytest.raises(ValueError) as caught:
        open_source(SourceRequest(make(tmp_path)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# class folders, numbering, labels by folder, skipped
CLASS_FOLDERS = (
    (["Freude", "Wut"], "", {"Freude": "happiness", "Wut": "anger"}, {}),
    (["0_angry", "3_happy"], "", {"0_angry": "anger", "3_happy": "happiness"}, {}),
    (
        ["01-Überraschung", "neutrality"],
        "",
        {"01-Überraschung": "surprise", "neutrality": "neutral"},
        {},
    ),
    ([*"1234567"], "", {"1": "surprise", "4": "happiness", "7": "neutral"}, {}),
    ([*"01234567"], "", {"0": "neutral", "1": "happiness", "7": "contempt"}, {}),
    ([*"0123456"], "fer2013", {"0": "anger", "6": "neutral"}, {}),
    ([*"0123456"], "affectnet", {"0": "neutral", "6": "anger"}, {}),
    (["0", "3"], "fer2013", {"0": "anger", "3": "happiness"}, {}),
    (
        ["happy", "suprise", "joy\nride"],
        "",
        {"happy": "happiness"},
        {
            "images in folder 'suprise', which is no emotion": 1,
            "images in folder 'joy\\nride', which is no emotion": 1,
        },
    ),
)


@pytest.mark.parametrize(("names", "numbering", "labels", "skipped"), CLASS_FOLDERS)
def test_common_class_folder_names_are_recognized(tmp_path, names, numbering, labels, skipped):
    path = class_folders(*names)(tmp_path)
    source = open_source(SourceRequest(path, numbering=numbering))
    read = {sample.name.split("/")[0]: EMOTIONS[sample.label] for sample in source.samples}
    assert {name: read[name] for name in labels} == labels
    assert len(read) == len(names) - len(skipped)
    assert source.skipped == skipped


def test_the_requested_split_of_class_folders_is_read(tmp_path):
    draw(tmp_path / "train" / "Freude" / "1.png", tmp_path / "valid" / "Wut" / "1.png")
    for split, emotion in (("train", "happiness"), ("valid", "anger")):
        (sample,) = open_source(SourceRequest(tmp_path, split)).samples
        assert EMOTIONS[sample.label] == emotion
    with pytest.raises(ValueError, match="holds train, valid: choose one with --split"):
        open_source(SourceRequest(tmp_path))
    (sample,) = open_source(SourceRequest(tmp_path / "valid", "valid")).samples
    assert EMOTIONS[sample.label] == "anger"


def test_formats_that_cannot_be_read_are_counted(tmp_path):
    (folders(tmp_path) / "happy" / "3.heic").write_bytes(b"ftypheic")
    (tmp_path / "Anger" / "4.AVIF").write_bytes(b"ftypavif")
    (tmp_path / "happy" / "notes.txt").touch()
    jfif = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    (tmp_path / "happy" / "5.jfif").write_bytes(jfif)
    source = open_source(SourceRequest(tmp_path))
    assert "happy/5.jfif" in [sample.name for sample in source.samples]
    assert source.skipped == {"unsupported .heic file": 1, "unsupported .avif file": 1}


def test_images_beside_the_class_folders_are_counted(tmp_path):
    draw(folders(tmp_path) / "1.png")
    (tmp_path / "2.heic").write_bytes(b"ftypheic")
    assert open_source(SourceRequest(tmp_path)).skipped == {
        "images outside of the class folders": 2
    }


def test_faces_in_several_folders_are_read_if_requested(tmp_path):
    source = open_source(SourceRequest(class_folders("ann", "bob")(tmp_path)), kind="faces")
    assert (source.labels, len(source.samples)) == ("", 2)
