"""Every layout of a dataset, as samples."""

import os
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_tools import write_lines
from fuzz.datasets import FALSE_HEADERS, npy

from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from training.datasets.readers.registry import KINDS, open_source
from training.datasets.records import SourceRequest, dataset_name, split_of

IMAGE = cv2.imencode(".png", np.full((8, 6, 3), 90, np.uint8))[1].tobytes()
HAPPY = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0]


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGE)


def parquet_votes(top: Path) -> Path:
    table = {"name": ["a", "b"], "image": [IMAGE] * 2, "votes": [HAPPY] * 2}
    path = top / "set_train.parquet"
    pq.write_table(pa.table(table | {"dup_group": [None, 3]}), path)
    return path


def parquet_labels(top: Path) -> Path:
    table = {"name": ["a", "b"], "image": [IMAGE] * 2, "label": ["Sad", "fear"]}
    path = top / "set_train.parquet"
    pq.write_table(pa.table(table | {"identity": [7, 8], "source": ["film", "web"]}), path)
    return path


def ferplus(top: Path) -> Path:
    for split in ("Train", "Valid", "Test"):
        folder = top / f"FER2013{split}"
        lines = (f'fer{i}.png,"(0, 0, 48, 48)",{",".join(map(str, HAPPY))}' for i in range(2))
        write_lines(folder / "label.csv", *lines)
        draw(folder / "fer0.png", folder / "fer1.png")
    return top


def ferplus_csv(top: Path) -> Path:
    """Images 0 and 1; a line without a name; image 1 twice, the second time as fear."""
    votes, fear = ",".join(map(str, HAPPY)), "0,0,0,0,0,0,10,0,0,0"
    named = [f"PrivateTest,fer{i}.png,{votes}" for i in range(2)]
    head = f"Usage,Image name,{','.join(FERPLUS_VOTES)}"
    more = [f"PrivateTest,,{votes}", f"PrivateTest,fer1.png,{fear}", f"Training,fer2.png,{votes}"]
    write_lines(top / "fer2013new.csv", head, *named, *more)
    draw(top / "FER2013Test" / "fer0.png", top / "FER2013Test" / "fer1.png")
    return top


def fer2013(top: Path) -> Path:
    """One image a usage, and a second one to train on."""
    pixels = " ".join(["90"] * 48 * 48)
    usages = ("Training", "PublicTest", "PrivateTest", "Training")
    lines = [f"{emotion},{pixels},{usage}" for emotion, usage in enumerate(usages)]
    return write_lines(top / "fer2013.csv", "emotion,pixels,Usage", *lines)


def landmarks() -> np.ndarray:
    return np.stack([np.linspace(10, 30, 68), np.linspace(20, 50, 68)], axis=1)


AFFECTNET = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal"
)


def affectnet_csv(top: Path) -> Path:
    points = ";".join(map(str, landmarks().ravel()))
    lines = [f"1/{i}.jpg,5,6,20,30,{points},{i},0.1,-0.2" for i in range(11)]
    write_lines(top / "Manually_Annotated_file_lists" / "training.csv", AFFECTNET, *lines)
    write_lines(top / "Manually_Annotated_file_lists" / "validation.csv", AFFECTNET, lines[0])
    draw(*(top / "Manually_Annotated_Images" / "1" / f"{i}.jpg" for i in range(11)))
    return top


def affectnet(top: Path) -> Path:
    for split, count in (("train_set", 11), ("val_set", 1)):
        (top / split / "annotations").mkdir(parents=True)
        for i in range(count):
            draw(top / split / "images" / f"{i}.jpg")
            for key, value in {"exp": str(i), "val": "0.1", "aro": "0.2"}.items():
                np.save(top / split / "annotations" / f"{i}_{key}.npy", np.array(value))
            np.save(top / split / "annotations" / f"{i}_lnd.npy", landmarks().ravel())
    return top


def folders(top: Path) -> Path:
    draw(top / "happy" / "1.jpg", top / "happy" / "2.png", top / "Anger" / "1.jpg")
    return top


def split_folders(top: Path) -> Path:
    draw(top / "train" / "fear" / "1.jpg", top / "val" / "sad" / "1.jpg")
    return top


def table(top: Path) -> Path:
    draw(top / "in" / "a.jpg", top / "in" / "b.jpg")
    lines = ("path,label,identity,split", "in/a.jpg,happy,ann,train", "in/b.jpg,Sad,bob,val")
    return write_lines(top / "list.csv", *lines)


def faces(top: Path) -> Path:
    draw(top / "000002.jpg", top / "000001.jpg", top / "more" / "3.png", top / ".hidden.png")
    write_lines(top / "readme.txt", "not an image")
    os.mkfifo(top / "pipe.jpg")  # opening it blocks until there is a writer
    (top / "folder.jpg").mkdir()
    return top


# layout, requested split, kind, names, labels or the best-voted column, dropped
LAYOUTS = (
    (faces, "", "faces", ["000001.jpg", "000002.jpg", "more/3.png"], [-1] * 3, {}),
    (parquet_votes, "", "parquet", ["a", "b"], [1, 1], {}),
    (parquet_labels, "", "parquet", ["a", "b"], [2, 4], {}),
    (ferplus, "train", "ferplus", ["fer0", "fer1"], [1, 1], {}),
    (
        ferplus_csv,
        "test",
        "ferplus-csv",
        ["fer0", "fer1"],
        [1, 6],
        {"no image name": 1, "name occurs again": 1},
    ),
    (fer2013, "train", "fer2013", ["fer0000000", "fer0000003"], [6, 1], {}),
    (fer2013, "test", "fer2013", ["fer0000002"], [4], {}),
    (
        affectnet_csv,
        "train",
        "affectnet-csv",
        [f"1/{i}.jpg" for i in range(8)],
        list(range(8)),
        {"expression 8 (none)": 1, "expression 9 (uncertain)": 1, "expression 10 (no face)": 1},
    ),
    (affectnet, "valid", "affectnet", ["0"], [0], {}),
    (folders, "", "folders", ["Anger/1.jpg", "happy/1.jpg", "happy/2.png"], [6, 1, 1], {}),
    (split_folders, "valid", "folders", ["sad/1.jpg"], [2], {}),
    (table, "train", "csv", ["in/a.jpg"], [1], {}),
)


@pytest.mark.parametrize(("make", "split", "kind", "names", "labels", "dropped"), LAYOUTS)
def test_layouts_are_recognized(tmp_path, make, split, kind, names, labels, dropped):
    source = open_source(SourceRequest(make(tmp_path), split))
    assert source.kind == kind
    assert [row.name for row in source.samples] == names
    assert [
        int(np.argmax(row.votes)) if row.votes else row.label for row in source.samples
    ] == labels
    assert source.dropped == dropped
    assert source.tight_crops == (kind in {"parquet", "ferplus", "ferplus-csv", "fer2013"})
    read = list(source.images(1, 99))
    assert [(place, row.name) for place, row, _ in read] == list(enumerate(names))[1:]
    assert all(data == IMAGE or kind == "fer2013" for _, _, data in read)


@pytest.mark.parametrize(
    "face", ["5,6,-20,30,", "5,6,1e39,30,", f"3e38,0,3e38,9,{';'.join(['3e38'] * 136)}"]
)
def test_images_labeled_not_a_face_are_dropped(tmp_path, face):
    draw(tmp_path / "a.png")
    path = write_lines(tmp_path / "training.csv", AFFECTNET, f"a.png,{face},1,0,0")
    (row,) = open_source(SourceRequest(path)).samples
    assert len(row.box_xyxy) == len(row.points_xy) == 0


@pytest.mark.parametrize("make", [affectnet_csv, affectnet])
def test_affectnet_gives_a_box_and_five_points(tmp_path, make):
    row = open_source(SourceRequest(make(tmp_path), "train")).samples[0]
    expected = [5, 6, 25, 36] if make is affectnet_csv else [10, 20, 30, 50]
    np.testing.assert_allclose(row.box_xyxy, expected, rtol=1e-6)
    np.testing.assert_allclose(row.points_xy[2], landmarks()[30], rtol=1e-6)


@pytest.mark.parametrize(("make", "split"), [(affectnet_csv, "train"), (affectnet, "train")])
def test_seven_classes_have_no_contempt(tmp_path, make, split):
    source = open_source(SourceRequest(make(tmp_path), split, classes=7))
    assert [EMOTIONS[row.label] for row in source.samples] == list(EMOTIONS[:7])
    assert source.dropped["contempt"] == 1


def test_affectnet_without_landmarks_or_header(tmp_path):
    draw(tmp_path / "1" / "a.jpg")
    path = write_lines(tmp_path / "list.csv", "1/a.jpg,NULL,NULL,NULL,NULL,NULL,3,-2,-2")
    source = open_source(SourceRequest(path), "affectnet-csv")
    assert EMOTIONS[source.samples[0].label] == "surprise"
    assert len(source.samples[0].box_xyxy) == len(source.samples[0].points_xy) == 0


def test_identity_split_and_source_are_kept(tmp_path):
    rows = open_source(SourceRequest(parquet_labels(tmp_path))).samples
    assert [(row.identity, row.source) for row in rows] == [("7", "film"), ("8", "web")]
    groups = [row.dup_group for row in open_source(SourceRequest(parquet_votes(tmp_path))).samples]
    assert groups == [-1, 3]
    assert open_source(SourceRequest(table(tmp_path), "valid")).samples[0].identity == "bob"


@pytest.mark.parametrize("name", ["gone.jpg", f"{'x' * 300}.jpg"])
def test_a_missing_image_is_empty(tmp_path, name):
    path = write_lines(tmp_path / "list.csv", "path,label", f"{name},fear")
    assert [data for _, _, data in open_source(SourceRequest(path)).images(0, 1)] == [b""]


def test_the_default_of_tight_crops_can_be_overridden(tmp_path):
    assert open_source(SourceRequest(folders(tmp_path)), tight_crops=True).tight_crops


def break_ferplus(top: Path) -> Path:
    (ferplus(top) / "FER2013Train" / "label.csv").unlink()
    return top


def break_votes(top: Path) -> Path:
    write_lines(
        ferplus(top) / "FER2013Train" / "label.csv", 'a.png,"(0, 0, 4, 4)",1,2,x,0,0,0,0,0,0,0'
    )
    return top


def break_affectnet(top: Path) -> Path:
    (affectnet(top) / "train_set" / "annotations" / "3_exp.npy").unlink()
    return top


def pickle_affectnet(top: Path) -> Path:
    path = affectnet(top) / "train_set" / "annotations" / "3_exp.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    return top


def lost_affectnet(top: Path) -> Path:
    folder = affectnet_csv(top) / "Manually_Annotated_Images"
    folder.rename(top / "Elsewhere")
    return top


def empty_folder(top: Path) -> Path:
    (folders(top) / "fear").mkdir()
    return top


def unknown_in_table(top: Path) -> Path:
    return write_lines(top / "list.csv", "path,label", "a.jpg,happy", "b.jpg,bored")


def truncated_table(top: Path) -> Path:
    return write_lines(top / "list.csv", "path,label", "a.jpg")


def latin_table(top: Path) -> Path:
    path = write_lines(top / "list.csv", "path,label", "a.jpg,happy")
    path.write_bytes(path.read_bytes().replace(b"a.jpg", "ä.jpg".encode("latin-1")))
    return path


def endless_cell(top: Path) -> Path:
    return write_lines(top / "list.csv", "path,label", f"a.jpg,{'x' * 200_000}")


def unknown_expression(top: Path) -> Path:
    draw(top / "images" / "0.jpg")
    (top / "annotations").mkdir()
    np.save(top / "annotations" / "0_exp.npy", np.array("11"))
    return top


def voted(vote: str):
    def make(top: Path) -> Path:
        write_lines(ferplus(top) / "FER2013Train" / "label.csv", f"a.png,box,{'0,' * 9}{vote}")
        return top

    return make


def expressed(expression: str):
    def make(top: Path) -> Path:
        draw(top / "a.png")
        return write_lines(top / "training.csv", AFFECTNET, f"a.png,0,0,9,9,,{expression},0,0")

    return make


def annotated(content: bytes):
    def make(top: Path) -> Path:
        (affectnet(top) / "train_set" / "annotations" / "3_exp.npy").write_bytes(content)
        return top

    return make


def zipped_array(top: Path) -> Path:
    np.savez(affectnet(top) / "archive.npz", np.array("3"))
    (top / "archive.npz").replace(top / "train_set" / "annotations" / "3_exp.npy")
    return top


def overlong_name(top: Path) -> Path:
    return write_lines(top / "training.csv", AFFECTNET, f"{'x' * 300}.png,0,0,9,9,,1,0,0")


# source, requested split, words of the message
ERRORS = (
    (lambda top: top / "nothing", "", "nothing: no such file or folder"),
    (lambda top: top, "", "recognized none"),
    (ferplus, "", "holds test, train, valid: choose one with --split"),
    (affectnet, "test", "expected a split test, found train, valid"),
    (break_ferplus, "train", "label.csv: no such file"),
    (break_votes, "train", "label.csv:1: expected 10 numbers of votes"),
    (break_affectnet, "train", "3_exp.npy: no such file"),
    (pickle_affectnet, "train", "3_exp.npy: expected numbers"),
    (unknown_expression, "", "0_exp.npy: expected an expression of 0 to 10, found '11'"),
    (lost_affectnet, "train", "name their folder with --images"),
    (folders, "valid", "expected a split valid, found a source without splits"),
    (faces, "valid", "expected a split valid, found a source without splits"),
    (parquet_votes, "test", "expected a split test, found a source without splits"),
    (empty_folder, "", "fear: expected images, found none"),
    (unknown_in_table, "", "list.csv:3: unknown emotion 'bored'"),
    (truncated_table, "", "list.csv:2: expected 2 cells"),
    (latin_table, "", "list.csv: expected a CSV file in UTF-8"),
    (endless_cell, "", "list.csv: expected a CSV file in UTF-8"),
    (voted("²"), "train", "label.csv:1: expected 10 numbers of votes from 0 to 255, found ['0', "),
    (voted("9" * 5000), "train", "label.csv:1: expected 10 numbers of votes from 0 to 255"),
    (voted("256"), "train", "label.csv:1: expected 10 numbers of votes from 0 to 255"),
    (expressed("²"), "", "training.csv:2: expected an expression of 0 to 10, found '²'"),
    (expressed("1" * 5000), "", "training.csv:2: expected an expression of 0 to 10, found '1111"),
    (annotated(b""), "train", "3_exp.npy: expected numbers in NumPy's format"),
    (annotated(npy("²")), "train", "annotations/3_exp.npy: expected an expression of 0 to 10"),
    (
        annotated(FALSE_HEADERS["10^12 numbers"]),
        "train",
        "3_exp.npy: expected numbers in NumPy's format",
    ),
    (zipped_array, "train", "3_exp.npy: expected numbers in NumPy's format"),
    (overlong_name, "", "training.csv: its images are not next to it"),
)


@pytest.mark.parametrize(("make", "split", "words"), ERRORS)
def test_errors_are_reported_in_one_line(tmp_path, make, split, words):
    with pytest.raises(ValueError) as caught:
        open_source(SourceRequest(make(tmp_path), split))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_image_paths_may_be_relative_to_another_folder(tmp_path):
    lost_affectnet(tmp_path)
    request = SourceRequest(tmp_path, "valid", images=tmp_path / "Elsewhere")
    assert [data for _, _, data in open_source(request).images(0, 1)] == [IMAGE]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.csv", "birds"),
        ("lfwx_train.parquet", "lfwx"),
        ("ferplus-valid", "ferplus"),
        ("my faces.csv", "my_faces"),
    ],
)
def test_splits_of_a_dataset_share_its_name(name, expected):
    assert dataset_name(Path("/data/birds") / name) == expected


@pytest.mark.parametrize(
    ("word", "split"),
    [("", ""), ("PublicTest", "valid"), ("FER2013Test", "test"), ("val", "valid"), ("happy", "")],
)
def test_split_names_are_recognized(word, split):
    assert split_of(word) == split


def test_every_kind_is_tested():
    """Those with landmarks in a file of their own."""
    assert {kind for _, _, kind, *_ in LAYOUTS} == set(KINDS) - {"300w", "wflw"}
