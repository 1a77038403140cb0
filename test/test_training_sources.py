"""Every layout of a data set, as rows."""

import os
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz.packs import LIES, npy
from pack_tools import write_lines

from fer_ros.labels import EMOTIONS, FERPLUS_VOTES
from training.annotated import ANNOTATED
from training.rows import Wanted, dataset_name, split_of
from training.sources import KINDS, open_source

PICTURE = cv2.imencode(".png", np.full((8, 6, 3), 90, np.uint8))[1].tobytes()
HAPPY = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0]


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)


def parquet_votes(top: Path) -> Path:
    table = {"name": ["a", "b"], "image": [PICTURE] * 2, "votes": [HAPPY] * 2}
    path = top / "set_train.parquet"
    pq.write_table(pa.table(table | {"dup_group": [None, 3]}), path)
    return path


def parquet_labels(top: Path) -> Path:
    table = {"name": ["a", "b"], "image": [PICTURE] * 2, "label": ["Sad", "fear"]}
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
    """Pictures 0 and 1; a line without a name; picture 1 twice, the second time as fear."""
    votes, fear = ",".join(map(str, HAPPY)), "0,0,0,0,0,0,10,0,0,0"
    named = [f"PrivateTest,fer{i}.png,{votes}" for i in range(2)]
    head = f"Usage,Image name,{','.join(FERPLUS_VOTES)}"
    more = [f"PrivateTest,,{votes}", f"PrivateTest,fer1.png,{fear}", f"Training,fer2.png,{votes}"]
    write_lines(top / "fer2013new.csv", head, *named, *more)
    draw(top / "FER2013Test" / "fer0.png", top / "FER2013Test" / "fer1.png")
    return top


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
    write_lines(top / "readme.txt", "not a picture")
    os.mkfifo(top / "pipe.jpg")  # who opens it waits for somebody to write
    (top / "folder.jpg").mkdir()
    return top


# layout, split asked for, kind, names, labels or the best-voted column, dropped
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
        {"no picture name": 1, "name occurs again": 1},
    ),
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
def test_layouts_are_recognised(tmp_path, make, split, kind, names, labels, dropped):
    source = open_source(Wanted(make(tmp_path), split))
    assert source.kind == kind
    assert [row.name for row in source.rows] == names
    assert [int(np.argmax(row.votes)) if row.votes else row.label for row in source.rows] == labels
    assert source.dropped == dropped
    assert source.tight == (kind in {"parquet", "ferplus", "ferplus-csv"})
    read = list(source.pictures(1, 99))
    assert [(place, row.name) for place, row, _ in read] == list(enumerate(names))[1:]
    assert all(data == PICTURE for _, _, data in read)


@pytest.mark.parametrize(
    "face", ["5,6,-20,30,", "5,6,1e39,30,", f"3e38,0,3e38,9,{';'.join(['3e38'] * 136)}"]
)
def test_what_is_no_face_is_left_out(tmp_path, face):
    draw(tmp_path / "a.png")
    path = write_lines(tmp_path / "training.csv", AFFECTNET, f"a.png,{face},1,0,0")
    (row,) = open_source(Wanted(path)).rows
    assert len(row.box_xyxy) == len(row.points_xy) == 0


@pytest.mark.parametrize("make", [affectnet_csv, affectnet])
def test_affectnet_brings_a_box_and_five_points(tmp_path, make):
    row = open_source(Wanted(make(tmp_path), "train")).rows[0]
    expected = [5, 6, 25, 36] if make is affectnet_csv else [10, 20, 30, 50]
    np.testing.assert_allclose(row.box_xyxy, expected, rtol=1e-6)
    np.testing.assert_allclose(row.points_xy[2], landmarks()[30], rtol=1e-6)


@pytest.mark.parametrize(("make", "split"), [(affectnet_csv, "train"), (affectnet, "train")])
def test_seven_classes_have_no_contempt(tmp_path, make, split):
    source = open_source(Wanted(make(tmp_path), split, classes=7))
    assert [EMOTIONS[row.label] for row in source.rows] == list(EMOTIONS[:7])
    assert source.dropped["contempt"] == 1


def test_affectnet_without_landmarks_or_header(tmp_path):
    draw(tmp_path / "1" / "a.jpg")
    path = write_lines(tmp_path / "list.csv", "1/a.jpg,NULL,NULL,NULL,NULL,NULL,3,-2,-2")
    source = open_source(Wanted(path), "affectnet-csv")
    assert EMOTIONS[source.rows[0].label] == "surprise"
    assert len(source.rows[0].box_xyxy) == len(source.rows[0].points_xy) == 0


def test_what_is_known_beside_the_label_is_kept(tmp_path):
    rows = open_source(Wanted(parquet_labels(tmp_path))).rows
    assert [(row.identity, row.source) for row in rows] == [("7", "film"), ("8", "web")]
    groups = [row.dup_group for row in open_source(Wanted(parquet_votes(tmp_path))).rows]
    assert groups == [-1, 3]
    assert open_source(Wanted(table(tmp_path), "valid")).rows[0].identity == "bob"


@pytest.mark.parametrize("name", ["gone.jpg", "a\0.jpg", f"{'x' * 300}.jpg"])
def test_a_picture_that_is_not_there_is_empty(tmp_path, name):
    path = write_lines(tmp_path / "list.csv", "path,label", f"{name},fear")
    assert [data for _, _, data in open_source(Wanted(path)).pictures(0, 1)] == [b""]


def test_the_usual_tightness_can_be_overruled(tmp_path):
    assert open_source(Wanted(folders(tmp_path)), tight=True).tight


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


def unknown_folder(top: Path) -> Path:
    draw(folders(top) / "joyful" / "1.jpg")
    return top


def empty_folder(top: Path) -> Path:
    (folders(top) / "fear").mkdir()
    return top


def unknown_in_table(top: Path) -> Path:
    return write_lines(top / "list.csv", "path,label", "a.jpg,happy", "b.jpg,bored")


def torn_table(top: Path) -> Path:
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


def folder_of_two_lines(top: Path) -> Path:
    draw(folders(top) / "joy\nful" / "1.jpg")
    return top


# what is wrong, split asked for, words of the message
TROUBLES = (
    (lambda top: top / "nothing", "", "nothing: no such file or folder"),
    (lambda top: top, "", "recognised none"),
    (ferplus, "", "holds test, train, valid: choose one with --split"),
    (affectnet, "test", "expected a split test, found train, valid"),
    (break_ferplus, "train", "label.csv: no such file"),
    (break_votes, "train", "label.csv:1: expected 10 numbers of votes"),
    (break_affectnet, "train", "3_exp.npy: no such file"),
    (pickle_affectnet, "train", "3_exp.npy: expected numbers"),
    (unknown_expression, "", "0_exp.npy: expected an expression of 0 to 10, found '11'"),
    (lost_affectnet, "train", "name their folder with --pictures"),
    (unknown_folder, "", "joyful: unknown emotion 'joyful'"),
    (empty_folder, "", "fear: expected pictures, found none"),
    (unknown_in_table, "", "list.csv:3: unknown emotion 'bored'"),
    (torn_table, "", "list.csv:2: expected 2 cells"),
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
        annotated(LIES["10^12 numbers"]),
        "train",
        "3_exp.npy: expected numbers in NumPy's format",
    ),
    (zipped_array, "train", "3_exp.npy: expected numbers in NumPy's format"),
    (overlong_name, "", "training.csv: its pictures are not beside it"),
    (folder_of_two_lines, "", "joy ful: unknown emotion"),
)


@pytest.mark.parametrize(("make", "split", "words"), TROUBLES)
def test_what_is_wrong_is_one_line(tmp_path, make, split, words):
    with pytest.raises(ValueError) as caught:
        open_source(Wanted(make(tmp_path), split))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_of_a_table_may_start_elsewhere(tmp_path):
    lost_affectnet(tmp_path)
    wanted = Wanted(tmp_path, "valid", pictures=tmp_path / "Elsewhere")
    assert [data for _, _, data in open_source(wanted).pictures(0, 1)] == [PICTURE]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.csv", "birds"),
        ("lfwx_train.parquet", "lfwx"),
        ("ferplus-valid", "ferplus"),
        ("my faces.csv", "my_faces"),
    ],
)
def test_splits_of_a_data_set_share_its_name(name, expected):
    assert dataset_name(Path("/data/birds") / name) == expected


@pytest.mark.parametrize(
    ("word", "split"),
    [("", ""), ("PublicTest", "valid"), ("FER2013Test", "test"), ("val", "valid"), ("happy", "")],
)
def test_words_for_splits(word, split):
    assert split_of(word) == split


def test_every_kind_is_tested():
    """Those with landmarks in a file of their own."""
    assert {kind for _, _, kind, *_ in LAYOUTS} == set(KINDS) - set(ANNOTATED)
