"""From a dataset to a dataset: faces are found once, and a kill costs one shard."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import frontal_points
from dataset_tools import write_points

from fer_ros.alignment import crop_to_frame
from training.datasets.localization import (
    cut_padded_crop,
    decode_image,
    denormalize_affine,
    find_in_photograph,
    make_dataset_detector,
    normalize_affine,
)
from training.datasets.readers.registry import open_source
from training.datasets.records import DatasetSource, Sample, SourceRequest
from training.datasets.shards import PARTIAL_FILE, FaceDataset, pixel_hash
from training.prepare import format_report, is_partial, main, prepare

NO_BOX = np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def tight():
    return make_dataset_detector(True)


@pytest.fixture(scope="module")
def photographs():
    return make_dataset_detector(False)


def encode(image_rgb: np.ndarray) -> bytes:
    return cv2.imencode(".png", image_rgb[..., ::-1])[1].tobytes()


@pytest.fixture
def images(astronaut) -> dict[str, bytes]:
    """A tight crop of a face, a gray wall twice as large, the face mirrored, no image at all."""
    face = astronaut[50:190, 160:290]
    return {
        "face": encode(face),
        "wall": encode(np.full((280, 260, 3), 128, np.uint8)),
        "mirrored": encode(face[:, ::-1]),
        "truncated": b"not an image",
        "darker": encode(face // 2),
    }


def parquet(path: Path, images: dict[str, bytes], **columns: list) -> DatasetSource:
    pq.write_table(pa.table({"name": [*images], "image": [*images.values()], **columns}), path)
    return open_source(SourceRequest(path))


class KilledDetector:
    """A detector that is killed at its ``last`` image."""

    def __init__(self, detector, last: int) -> None:
        self.detector, self.left = detector, last

    def detect(self, image_rgb):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.detector.detect(image_rgb)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_labeled_tight_dataset_keeps_every_image(tight, images, tmp_path, capsys):
    labels = ["happy"] * 5
    source = parquet(
        tmp_path / "set_test.parquet", images, label=labels, dup_group=[1, *[None] * 4]
    )
    report = prepare(source, tmp_path / "new" / "dataset", tight, shard_size=2)
    assert report["faces"] == 4
    assert report["undetected_kept"] == 1
    assert report["undecodable"] == ["truncated"]
    stderr = capsys.readouterr().err
    assert "truncated: expected an encoded image: OpenCV cannot read 12 bytes" in stderr
    assert json.loads((tmp_path / "new" / "dataset" / "report.json").read_text()) == report

    dataset = FaceDataset.open(tmp_path / "new" / "dataset")
    assert (len(dataset), dataset.metadata.shards, dataset.metadata.name) == (4, 3, "set")
    assert dataset.column("name").tolist() == ["face", "wall", "mirrored", "darker"]
    assert dataset.column("index").tolist() == [0, 1, 2, 4]
    assert dataset.column("detected").tolist() == [True, False, True, True]
    assert dataset.column("label").tolist() == [1] * 4
    assert dataset.column("dup_group").tolist() == [1, -1, -1, -1]
    assert dataset.column("padded_crop").shape == (4, 144, 144)
    assert dataset.column("padded_crop_hash")[1] == pixel_hash(dataset.column("padded_crop")[1])
    assert dataset.column("pixel_hash")[0] == pixel_hash(decode_image(images["face"], ""))
    dataset.verify()


def test_undetected_faces_get_the_median_alignment(tight, images, tmp_path):
    """Relative to its size: the wall is twice as large, and so is its piece in the crop."""
    source = parquet(tmp_path / "a.parquet", images, label=["happy"] * 5)
    prepare(source, tmp_path / "dataset", tight)
    maps = FaceDataset.open(tmp_path / "dataset").column("frame_to_crop")
    scales = np.hypot(maps[:, 0, 0], maps[:, 1, 0])
    assert scales[1] == pytest.approx(np.median(scales[[0, 2, 3]]) / 2, rel=0.02)


def test_images_without_a_face_are_dropped_from_unlabeled_datasets(tight, images, tmp_path):
    report = prepare(parquet(tmp_path / "a.parquet", images), tmp_path / "dataset", tight)
    assert report["undetected_dropped"] == 1
    assert report["undetected"] == ["wall"]
    assert FaceDataset.open(tmp_path / "dataset").column("name").tolist() == [
        "face",
        "mirrored",
        "darker",
    ]


def test_an_interrupted_preparation_gives_identical_bytes(tight, images, tmp_path):
    source = parquet(tmp_path / "a.parquet", images, votes=[[0, 10, *[0] * 8]] * 5)
    prepare(source, tmp_path / "whole", tight, shard_size=2)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "killed", KilledDetector(tight, 3), shard_size=2)
    first = tmp_path / "killed" / "shard-00000.npz"
    written = first.stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"dataset.yaml: no such file.*to complete it"):
        FaceDataset.open(tmp_path / "killed")
    prepare(
        source, tmp_path / "killed", KilledDetector(tight, 3), shard_size=2
    )  # two images are left
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert first.stat().st_mtime_ns >= written
    prepare(source, tmp_path / "whole", KilledDetector(tight, 1), shard_size=2)  # nothing is left
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("killed", [False, True])
def test_another_dataset_is_not_overwritten(tight, images, tmp_path, killed):
    source = parquet(tmp_path / "a.parquet", images)
    if killed:
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "dataset", KilledDetector(tight, 1))
    else:
        prepare(source, tmp_path / "dataset", tight)
    del images["wall"]
    other = parquet(tmp_path / "b.parquet", images)
    with pytest.raises(
        ValueError, match="dataset: expected a dataset of the same samples and options"
    ):
        prepare(other, tmp_path / "dataset", tight)


@pytest.mark.parametrize("content", [b"", b"plan", b"plan: [", b"kind: parquet", b"\xff"])
def test_a_partial_dataset_without_a_plan_is_rejected(tight, images, tmp_path, content):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / PARTIAL_FILE).write_bytes(content)
    with pytest.raises(
        ValueError, match="dataset: expected a dataset of the same samples and options"
    ):
        prepare(parquet(tmp_path / "a.parquet", images), tmp_path / "dataset", tight)


@pytest.mark.parametrize("name", ["wall", "truncated"])
@pytest.mark.parametrize("labels", [{}, {"label": ["fear"]}])
def test_a_dataset_without_any_face_is_rejected(tight, images, tmp_path, name, labels):
    source = parquet(tmp_path / "a.parquet", {name: images[name]}, **labels)
    with pytest.raises(ValueError, match="no face was detected in any image"):
        prepare(source, tmp_path / "dataset", tight)


def test_photographs_without_any_face_suggest_tight_crops(photographs, tmp_path, images):
    source = parquet(tmp_path / "a.parquet", {"wall": images["wall"]}, label=["fear"])
    loose = open_source(SourceRequest(tmp_path / "a.parquet"), tight_crops=False)
    assert source.tight_crops
    with pytest.raises(ValueError, match="use --tight-crops"):
        prepare(loose, tmp_path / "dataset", photographs)


def test_undetected_photographs_use_their_annotated_landmarks(photographs, tmp_path):
    points = np.array([(40, 40), (70, 40), (55, 58), (43, 76), (67, 76)], np.float32)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(np.full((120, 110, 3), 128, np.uint8)))
    rows = [
        Sample("a", tmp_path / "a.png", label=3, points_xy=points),
        Sample("b", tmp_path / "b.png", label=3),
    ]
    report = prepare(
        DatasetSource("affectnet", "affectnet", rows), tmp_path / "dataset", photographs
    )
    assert (report["undetected_kept"], report["undetected_dropped"]) == (1, 1)
    dataset = FaceDataset.open(tmp_path / "dataset")
    assert dataset.column("name").tolist() == ["a"]
    back = crop_to_frame(np.array([[(56, 59.8)]], np.float32), dataset.column("frame_to_crop"))
    np.testing.assert_allclose(back[0, 0], points.mean(axis=0), atol=1.0)


def test_annotated_landmarks_are_fractions_of_the_crop(photographs, astronaut, tmp_path):
    """Where its image has a point, the crop that the detector leads to has it too."""
    points = frontal_points() + np.array([226 - 56, 118 - 60.5], np.float32)  # nose to nose
    write_points(tmp_path / "set" / "1.pts", points + 1)
    (tmp_path / "set" / "1.png").write_bytes(encode(astronaut))
    source = open_source(SourceRequest(tmp_path / "set"))
    prepare(source, tmp_path / "dataset", photographs)
    dataset = FaceDataset.open(tmp_path / "dataset")
    assert dataset.column("detected").all()
    in_crop_px = dataset.column("landmarks68") * 112 - 0.5
    back = crop_to_frame(in_crop_px, dataset.column("frame_to_crop"))
    np.testing.assert_allclose(back[0], points, atol=0.01)
    np.testing.assert_allclose(in_crop_px[0, 30], [56, 60], atol=8)

    write_points(tmp_path / "set" / "1.pts", points + 2)
    moved = open_source(SourceRequest(tmp_path / "set"))
    with pytest.raises(ValueError, match="found another one"):
        prepare(moved, tmp_path / "dataset", photographs)


def side_by_side(astronaut: np.ndarray) -> np.ndarray:
    """Her portrait, a smaller mirrored one beside it, and her face at the very left border."""
    small = cv2.resize(astronaut, (300, 300), interpolation=cv2.INTER_AREA)[:, ::-1]
    beside = np.zeros((512, 300, 3), np.uint8)
    beside[:300] = small
    return np.hstack([astronaut, beside])


# box that is given, where the nose is, None: no face
BOXES = (
    (NO_BOX, (226, 118)),
    ([170, 60, 280, 200], (226, 118)),
    ([630, 35, 710, 120], (679, 69)),
    ([300, 400, 400, 500], None),
)


@pytest.mark.parametrize(("box", "nose"), BOXES)
def test_the_annotated_face_is_selected(astronaut, photographs, box, nose):
    image_rgb = side_by_side(astronaut)
    points = find_in_photograph(photographs, image_rgb, np.array(box, np.float32))
    if nose is None:
        assert np.isnan(points).all()
    else:
        np.testing.assert_allclose(points[2], nose, atol=12)


def test_a_face_at_the_border_is_found(astronaut, photographs):
    cut = np.ascontiguousarray(astronaut[40:300, 175:430])
    points = find_in_photograph(photographs, cut, NO_BOX)
    np.testing.assert_allclose(points[2], (226 - 175, 118 - 40), atol=6)


def test_a_face_too_small_for_the_reduced_photograph_is_found(astronaut, photographs):
    small = cv2.resize(astronaut, (128, 128), interpolation=cv2.INTER_AREA)
    picture_rgb = np.full((900, 1600, 3), 100, np.uint8)
    picture_rgb[600:728, 1200:1328] = small
    points = find_in_photograph(photographs, picture_rgb, NO_BOX)
    np.testing.assert_allclose(points[2], (1200 + 223 / 4, 600 + 127 / 4), atol=3)


def test_normalized_affines_round_trip():
    maps = np.array([[[0.5, 0.1, 3], [-0.1, 0.5, 7]], [[2, 0, -30], [0, 2, -40]]], np.float32)
    sizes = np.array([(48, 48), (100, 60)], np.int32)
    for to_crop, size, typical in zip(maps, sizes, normalize_affine(maps, sizes), strict=True):
        np.testing.assert_allclose(denormalize_affine(typical, size), to_crop, rtol=1e-5)
    assert normalize_affine(maps[:0], sizes[:0]).shape == (0, 2, 3)


def test_padded_crops_have_a_margin_around_the_crop():
    image_rgb = np.full((200, 200, 3), 10, np.uint8)
    image_rgb[50, 60] = 250
    to_crop = np.array([[1, 0, -20], [0, 1, -30]], np.float32)
    cut = cut_padded_crop(image_rgb, to_crop)
    assert cut.shape == (144, 144)
    assert np.argwhere(cut > 100).tolist() == [[50 - 30 + 16, 60 - 20 + 16]]


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_undecodable_images_are_named(data):
    with pytest.raises(ValueError, match="photo_7: expected an encoded image: OpenCV cannot"):
        decode_image(data, "photo_7")


NOTHING = {
    "images": 0,
    "faces": 0,
    "undetected_kept": 0,
    "undetected_dropped": 0,
    "undecodable": [],
    "dropped_labels": {},
    "skipped": {},
}


@pytest.mark.parametrize(
    ("change", "partial"),
    [
        ({}, False),
        ({"undetected_kept": 1}, False),
        ({"dropped_labels": {"no majority": 3}}, False),
        ({"undetected_dropped": 1}, True),
        ({"undecodable": ["a"]}, True),
        ({"skipped": {"unsupported .heic file": 2}}, True),
    ],
)
def test_a_dataset_is_partial_without_some_of_its_images(change, partial):
    assert is_partial({**NOTHING, **change}) is partial


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "0 faces of 0 images;"),
        ({"undecodable": ["a", "b", "c", "d"]}, "4 undecodable (a, b, c, ...);"),
        ({"undecodable": ["gr\udcfcn.png"]}, r"1 undecodable (gr\udcfcn.png);"),
        ({"dropped_labels": {"contempt": 3}}, "labels dropped: 3 contempt"),
        ({"skipped": {"unsupported .heic file": 2}}, "not used: 2 unsupported .heic file"),
    ],
)
def test_the_report_is_one_line(change, words):
    assert words in format_report({**NOTHING, **change})


def test_the_command_reports_the_image_counts(tmp_path, images, capsys):
    (tmp_path / "set" / "happy").mkdir(parents=True)
    (tmp_path / "set" / "happy" / "1.png").write_bytes(images["face"])
    folders = [str(tmp_path / "set"), str(tmp_path / "dataset")]
    assert main([*folders, "--tight-crops"]) == 0
    assert "dataset: 1 faces of 1 images" in capsys.readouterr().out
    assert main([*folders, "--kind", "parquet"]) == 1
    assert re.search(r"^prepare: .*not a Parquet file", capsys.readouterr().err, re.MULTILINE)


def test_unusable_files_are_reported_and_exit_1(tmp_path, images, capsys):
    for name in ("happy/1.png", "happy/2.heic", "suprise/3.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"ftypheic" if path.suffix == ".heic" else images["face"])
    assert main([str(tmp_path / "set"), str(tmp_path / "dataset"), "--tight-crops"]) == 1
    out = capsys.readouterr().out
    assert "1 unsupported .heic file" in out
    assert "1 images in folder 'suprise', which is no emotion" in out


def test_dropped_images_are_counted_and_exit_1(tmp_path, images, capsys):
    (tmp_path / "set").mkdir()
    for name in ("face", "wall"):
        (tmp_path / "set" / f"{name}.png").write_bytes(images[name])
    assert main([str(tmp_path / "set"), str(tmp_path / "dataset"), "--tight-crops"]) == 1
    assert "1 faces of 2 images; no face detected in 0 that were kept and 1 that were dropped" in (
        capsys.readouterr().out
    )
