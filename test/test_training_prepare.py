"""From a data set to a pack: faces are found once, and a kill costs one shard."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import frontal_points
from pack_tools import write_points

from fer_ros.align import to_frame
from training.find import (
    absolute,
    canvas,
    decode,
    detector_for,
    find_in_photograph,
    relative,
)
from training.packs import PLAN, Pack, pixel_hash
from training.prepare import in_words, main, prepare
from training.rows import Row, Source, Wanted
from training.sources import open_source

NO_BOX = np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def tight():
    return detector_for(True)


@pytest.fixture(scope="module")
def photographs():
    return detector_for(False)


def encode(picture_rgb: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture_rgb[..., ::-1])[1].tobytes()


@pytest.fixture
def pictures(astronaut) -> dict[str, bytes]:
    """A tight crop of a face, a grey wall twice as large, the face mirrored, no picture at all."""
    face = astronaut[50:190, 160:290]
    return {
        "face": encode(face),
        "wall": encode(np.full((280, 260, 3), 128, np.uint8)),
        "mirrored": encode(face[:, ::-1]),
        "torn": b"not a picture",
        "darker": encode(face // 2),
    }


def parquet(path: Path, pictures: dict[str, bytes], **columns: list) -> Source:
    pq.write_table(pa.table({"name": [*pictures], "image": [*pictures.values()], **columns}), path)
    return open_source(Wanted(path))


class Dies:
    """A detector that is killed at its ``last`` picture."""

    def __init__(self, detector, last: int) -> None:
        self.detector, self.left = detector, last

    def detect(self, image_rgb):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.detector.detect(image_rgb)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_labelled_tight_set_keeps_every_picture(tight, pictures, tmp_path, capsys):
    labels = ["happy"] * 5
    source = parquet(
        tmp_path / "set_test.parquet", pictures, label=labels, dup_group=[1, *[None] * 4]
    )
    found = prepare(source, tmp_path / "new" / "pack", tight, shard_rows=2)
    assert found["faces"] == 4
    assert found["without_face_aligned"] == 1
    assert found["undecodable"] == ["torn"]
    told = capsys.readouterr().err
    assert "torn: expected an encoded picture: OpenCV cannot read 13 bytes" in told
    assert json.loads((tmp_path / "new" / "pack" / "report.json").read_text()) == found

    pack = Pack.open(tmp_path / "new" / "pack")
    assert (len(pack), pack.card.shards, pack.card.dataset) == (4, 3, "set")
    assert pack.column("name").tolist() == ["face", "wall", "mirrored", "darker"]
    assert pack.column("row").tolist() == [0, 1, 2, 4]
    assert pack.column("found").tolist() == [True, False, True, True]
    assert pack.column("label").tolist() == [1] * 4
    assert pack.column("dup_group").tolist() == [1, -1, -1, -1]
    assert pack.column("canvas").shape == (4, 144, 144)
    assert pack.column("canvas_hash")[1] == pixel_hash(pack.column("canvas")[1])
    assert pack.column("pixel_hash")[0] == pixel_hash(decode(pictures["face"], ""))
    pack.verify()


def test_what_has_no_face_is_aligned_as_the_others_are(tight, pictures, tmp_path):
    """Relative to its size: the wall is twice as large, and so is its piece in the crop."""
    source = parquet(tmp_path / "a.parquet", pictures, label=["happy"] * 5)
    prepare(source, tmp_path / "pack", tight)
    maps = Pack.open(tmp_path / "pack").column("frame_to_crop")
    scales = np.hypot(maps[:, 0, 0], maps[:, 1, 0])
    assert scales[1] == pytest.approx(np.median(scales[[0, 2, 3]]) / 2, rel=0.02)


def test_of_an_unlabelled_set_pictures_without_a_face_are_dropped(tight, pictures, tmp_path):
    found = prepare(parquet(tmp_path / "a.parquet", pictures), tmp_path / "pack", tight)
    assert found["without_face_dropped"] == 1
    assert found["faceless"] == ["wall"]
    assert Pack.open(tmp_path / "pack").column("name").tolist() == ["face", "mirrored", "darker"]


def test_the_same_pictures_give_the_same_bytes_even_after_a_kill(tight, pictures, tmp_path):
    source = parquet(tmp_path / "a.parquet", pictures, votes=[[0, 10, *[0] * 8]] * 5)
    prepare(source, tmp_path / "whole", tight, shard_rows=2)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "killed", Dies(tight, 3), shard_rows=2)
    first = tmp_path / "killed" / "shard-00000.npz"
    written = first.stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"pack.yaml: no such file.*goes on with it"):
        Pack.open(tmp_path / "killed")
    prepare(source, tmp_path / "killed", Dies(tight, 3), shard_rows=2)  # two pictures are left
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert first.stat().st_mtime_ns >= written
    prepare(source, tmp_path / "whole", Dies(tight, 1), shard_rows=2)  # nothing is left
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("killed", [False, True])
def test_another_pack_is_not_overwritten(tight, pictures, tmp_path, killed):
    source = parquet(tmp_path / "a.parquet", pictures)
    if killed:
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "pack", Dies(tight, 1))
    else:
        prepare(source, tmp_path / "pack", tight)
    del pictures["wall"]
    other = parquet(tmp_path / "b.parquet", pictures)
    with pytest.raises(ValueError, match="pack: expected a pack of the same rows and options"):
        prepare(other, tmp_path / "pack", tight)


@pytest.mark.parametrize("said", [b"", b"plan", b"plan: [", b"kind: parquet", b"\xff"])
def test_what_was_begun_without_a_plan_is_another_pack(tight, pictures, tmp_path, said):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / PLAN).write_bytes(said)
    with pytest.raises(ValueError, match="pack: expected a pack of the same rows and options"):
        prepare(parquet(tmp_path / "a.parquet", pictures), tmp_path / "pack", tight)


@pytest.mark.parametrize("name", ["wall", "torn"])
@pytest.mark.parametrize("labels", [{}, {"label": ["fear"]}])
def test_a_set_without_any_face_is_refused(tight, pictures, tmp_path, name, labels):
    source = parquet(tmp_path / "a.parquet", {name: pictures[name]}, **labels)
    with pytest.raises(ValueError, match="no face was found in any picture"):
        prepare(source, tmp_path / "pack", tight)


def test_a_set_of_photographs_without_any_face_may_be_a_tight_one(photographs, tmp_path, pictures):
    source = parquet(tmp_path / "a.parquet", {"wall": pictures["wall"]}, label=["fear"])
    loose = open_source(Wanted(tmp_path / "a.parquet"), tight=False)
    assert source.tight
    with pytest.raises(ValueError, match="Then try --tight"):
        prepare(loose, tmp_path / "pack", photographs)


def test_photographs_without_a_face_use_the_landmarks_they_came_with(photographs, tmp_path):
    points = np.array([(40, 40), (70, 40), (55, 58), (43, 76), (67, 76)], np.float32)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(np.full((120, 110, 3), 128, np.uint8)))
    rows = [
        Row("a", tmp_path / "a.png", label=3, points_xy=points),
        Row("b", tmp_path / "b.png", label=3),
    ]
    found = prepare(Source("affectnet", "affectnet", rows), tmp_path / "pack", photographs)
    assert (found["without_face_aligned"], found["without_face_dropped"]) == (1, 1)
    pack = Pack.open(tmp_path / "pack")
    assert pack.column("name").tolist() == ["a"]
    back = to_frame(np.array([[(56, 59.8)]], np.float32), pack.column("frame_to_crop"))
    np.testing.assert_allclose(back[0, 0], points.mean(axis=0), atol=1.0)


def test_landmarks_of_a_data_set_are_fractions_of_the_crop(photographs, astronaut, tmp_path):
    """Where its picture has a point, the crop that the detector leads to has it too."""
    points = frontal_points() + np.array([226 - 56, 118 - 60.5], np.float32)  # nose to nose
    write_points(tmp_path / "set" / "1.pts", points + 1)
    (tmp_path / "set" / "1.png").write_bytes(encode(astronaut))
    source = open_source(Wanted(tmp_path / "set"))
    prepare(source, tmp_path / "pack", photographs)
    pack = Pack.open(tmp_path / "pack")
    assert pack.column("found").all()
    in_crop_px = pack.column("points68") * 112 - 0.5
    back = to_frame(in_crop_px, pack.column("frame_to_crop"))
    np.testing.assert_allclose(back[0], points, atol=0.01)
    np.testing.assert_allclose(in_crop_px[0, 30], [56, 60], atol=8)

    write_points(tmp_path / "set" / "1.pts", points + 2)
    moved = open_source(Wanted(tmp_path / "set"))
    with pytest.raises(ValueError, match="found another one"):
        prepare(moved, tmp_path / "pack", photographs)


def side_by_side(astronaut: np.ndarray) -> np.ndarray:
    """Her portrait, a smaller mirrored one beside it, and her face at the very left border."""
    small = cv2.resize(astronaut, (300, 300), interpolation=cv2.INTER_AREA)[:, ::-1]
    beside = np.zeros((512, 300, 3), np.uint8)
    beside[:300] = small
    return np.hstack([astronaut, beside])


# box that is given, where the nose is, None: nobody
BOXES = (
    (NO_BOX, (226, 118)),
    ([170, 60, 280, 200], (226, 118)),
    ([630, 35, 710, 120], (679, 69)),
    ([300, 400, 400, 500], None),
)


@pytest.mark.parametrize(("box", "nose"), BOXES)
def test_the_face_that_is_meant(astronaut, photographs, box, nose):
    picture_rgb = side_by_side(astronaut)
    points = find_in_photograph(photographs, picture_rgb, np.array(box, np.float32))
    if nose is None:
        assert np.isnan(points).all()
    else:
        np.testing.assert_allclose(points[2], nose, atol=12)


def test_a_face_at_the_border_is_found(astronaut, photographs):
    cut = np.ascontiguousarray(astronaut[40:300, 175:430])
    points = find_in_photograph(photographs, cut, NO_BOX)
    np.testing.assert_allclose(points[2], (226 - 175, 118 - 40), atol=6)


def test_a_map_relative_to_the_picture_and_back():
    maps = np.array([[[0.5, 0.1, 3], [-0.1, 0.5, 7]], [[2, 0, -30], [0, 2, -40]]], np.float32)
    sizes = np.array([(48, 48), (100, 60)], np.int32)
    for to_crop, size, typical in zip(maps, sizes, relative(maps, sizes), strict=True):
        np.testing.assert_allclose(absolute(typical, size), to_crop, rtol=1e-5)
    assert relative(maps[:0], sizes[:0]).shape == (0, 2, 3)


def test_canvases_have_a_margin_around_the_crop():
    picture_rgb = np.full((200, 200, 3), 10, np.uint8)
    picture_rgb[50, 60] = 250
    to_crop = np.array([[1, 0, -20], [0, 1, -30]], np.float32)
    cut = canvas(picture_rgb, to_crop)
    assert cut.shape == (144, 144)
    assert np.argwhere(cut > 100).tolist() == [[50 - 30 + 16, 60 - 20 + 16]]


@pytest.mark.parametrize("data", [b"", b"not a picture"])
def test_what_does_not_decode_is_named(data):
    with pytest.raises(ValueError, match="photo_7: expected an encoded picture: OpenCV cannot"):
        decode(data, "photo_7")


NOTHING = {
    "pictures": 0,
    "faces": 0,
    "without_face_aligned": 0,
    "without_face_dropped": 0,
    "undecodable": [],
    "dropped_labels": {},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "0 faces of 0 pictures;"),
        ({"undecodable": ["a", "b", "c", "d"]}, "4 undecodable (a, b, c, ...);"),
        ({"undecodable": ["gr\udcfcn.png"]}, r"1 undecodable (gr\udcfcn.png);"),
        ({"dropped_labels": {"contempt": 3}}, "labels dropped: 3 contempt"),
    ],
)
def test_the_report_is_one_line(change, words):
    assert words in in_words({**NOTHING, **change})


def test_the_command_says_what_became_of_the_pictures(tmp_path, pictures, monkeypatch, capsys):
    (tmp_path / "set" / "happy").mkdir(parents=True)
    (tmp_path / "set" / "happy" / "1.png").write_bytes(pictures["face"])
    command = ["prepare", str(tmp_path / "set"), str(tmp_path / "pack")]
    monkeypatch.setattr(sys, "argv", [*command, "--tight"])
    main()
    assert "pack: 1 faces of 1 pictures" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command, "--kind", "parquet"])
    with pytest.raises(SystemExit, match=r"prepare: .*not a Parquet file"):
        main()
