"""``python -m training.prepare SRC OUT``: detect, align and store every face of a dataset.

SRC is a dataset in one of the layouts of ``training.datasets.readers.registry``. OUT becomes a
dataset: a folder of shards, which ``training.datasets.shards`` describes, with ``dataset.yaml`` and
``report.json``. Run the same command again to resume one that was killed. The same images give the
same arrays.

Tightly cropped faces (Parquet, FER2013, FER+, or ``--tight-crops``) are scaled to 128 px, padded
with gray to 192 px and searched with a low threshold. Where no face is detected, a labeled image is
aligned by the median affine of its dataset, relative to the size of the image, so that no test
image is lost; the column ``detected`` marks them. Images without labels are dropped instead.

Uncropped images, those of AffectNet among them, are reduced to 320 px and padded by a gray margin,
for faces at the border. Of several faces the one with the largest IoU with the given box is taken,
and without a box the largest. Where no face is detected, the given landmarks are used (``detected``
is false); an image without landmarks is dropped.

The report counts what was dropped and names the images that cannot be decoded, or in which no face
was detected. The exit code is 1 when the dataset is not of every image: some show no face and were
dropped, cannot be decoded or have an unsupported format, or their folder denotes no emotion.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import similarity
from fer_ros.detector import FaceDetector
from fer_ros.io.progress import ProgressBar, progress_bar, write_line
from fer_ros.io.yaml_file import parse_yaml
from training.command_line import report_error
from training.datasets.localization import (
    cut_padded_crop,
    decode_image,
    denormalize_affine,
    find_face,
    find_in_photograph,
    make_dataset_detector,
    normalize_affine,
    to_crop_fractions,
)
from training.datasets.readers.registry import add_arguments, from_arguments
from training.datasets.records import DatasetSource, Sample
from training.datasets.shards import (
    EXCLUDED_COLUMNS,
    FORMAT,
    METADATA_FILE,
    PADDED_CROP_PX,
    PARTIAL_FILE,
    crop_rule,
    finalize,
    open_shard,
    pixel_hash,
    read_metadata,
    shard_path,
    write_shard,
    write_yaml,
)

SHARD_SIZE = 4096
_MAX_NAMES = 3


@dataclass(frozen=True)
class _AlignedFace:
    """An entry of a shard; ``frame_to_crop`` is NaN until ``align_undetected``."""

    index: int
    sample: Sample
    frame_to_crop: NDArray[np.float32]
    detected: bool
    size_px: tuple[int, int]
    padded_crop: NDArray[np.uint8]
    pixel_hash: int


def _align(
    detector: FaceDetector,
    source: DatasetSource,
    index: int,
    sample: Sample,
    image_rgb: NDArray[np.uint8],
) -> _AlignedFace | None:
    """Detect and align the face of an image; None when it has to be dropped."""
    if source.tight_crops:
        points = find_face(detector, image_rgb)
    else:
        points = find_in_photograph(detector, image_rgb, sample.box_xyxy)
    detected = bool(np.isfinite(points).all())
    if not detected and len(sample.points_xy):
        points = sample.points_xy
    if np.isfinite(points).all():
        to_crop = similarity(points[None])[0]
        cut = cut_padded_crop(image_rgb, to_crop)
    elif source.tight_crops and source.labels:
        to_crop = np.full((2, 3), np.nan, np.float32)
        cut = np.zeros((PADDED_CROP_PX, PADDED_CROP_PX), np.uint8)
    else:
        return None
    size_px = (image_rgb.shape[1], image_rgb.shape[0])
    return _AlignedFace(index, sample, to_crop, detected, size_px, cut, pixel_hash(image_rgb))


def make_shard(
    source: DatasetSource, detector: FaceDetector, start: int, stop: int, bar: ProgressBar
) -> dict[str, NDArray]:
    """The columns of the samples ``start`` to ``stop``, and the names of excluded images."""
    faces: list[_AlignedFace] = []
    excluded: dict[str, list[str]] = {name: [] for name in EXCLUDED_COLUMNS}
    for index, sample, data in source.images(start, stop):
        bar.update()
        try:
            image_rgb = decode_image(data, sample.name)
        except ValueError as error:
            write_line(f"prepare: {error}")
            excluded["undecodable"].append(sample.name)
            continue
        face = _align(detector, source, index, sample, image_rgb)
        if face is None:
            excluded["undetected"].append(sample.name)
        else:
            faces.append(face)
    names = {name: np.array(values, np.str_) for name, values in excluded.items()}
    return _columns(faces, source.labels, source.has_landmarks) | names


def _columns(faces: list[_AlignedFace], labels: str, has_landmarks: bool) -> dict[str, NDArray]:
    count, samples = len(faces), [face.sample for face in faces]
    padded_crops = np.array([face.padded_crop for face in faces], np.uint8)
    maps = np.array([face.frame_to_crop for face in faces], np.float32)
    columns: dict[str, NDArray] = {
        "name": np.array([sample.name for sample in samples], np.str_),
        "index": np.array([face.index for face in faces], np.int32),
        "padded_crop": padded_crops.reshape(count, PADDED_CROP_PX, PADDED_CROP_PX),
        "padded_crop_hash": _hashes(padded_crops),
        "pixel_hash": np.array([face.pixel_hash for face in faces], np.uint64),
        "frame_to_crop": maps.reshape(count, 2, 3),
        "size_px": np.array([face.size_px for face in faces], np.int32).reshape(count, 2),
        "detected": np.array([face.detected for face in faces], np.bool_),
        "identity": np.array([sample.identity for sample in samples], np.str_),
        "source": np.array([sample.source for sample in samples], np.str_),
        "dup_group": np.array([sample.dup_group for sample in samples], np.int32),
    }
    if labels == "votes":
        columns["votes"] = np.array([sample.votes for sample in samples], np.uint8).reshape(
            count, -1
        )
    elif labels:
        columns["label"] = np.array([sample.label for sample in samples], np.int8)
    if has_landmarks:
        points_xy = np.array([sample.landmarks68_xy for sample in samples], np.float32)
        columns["landmarks68"] = to_crop_fractions(
            points_xy.reshape(count, 68, 2), columns["frame_to_crop"]
        )
    return columns


def _hashes(padded_crops: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.array([pixel_hash(crop) for crop in padded_crops], np.uint64)


def source_digest(source: DatasetSource, shard_size: int) -> str:
    """Digest of everything but pixels that the shards depend on."""
    total = sha256(repr((FORMAT, shard_size, crop_rule())).encode())
    total.update(repr((source.kind, source.tight_crops, source.classes)).encode())
    for sample in source.samples:
        known = (
            *(sample.name, sample.votes, sample.label),
            *(sample.identity, sample.source, sample.dup_group),
        )
        total.update(repr(known).encode() + sample.landmarks68_xy.tobytes())
    return total.hexdigest()


def start_or_resume(source: DatasetSource, target: Path, expected_digest: str) -> bool:
    """Whether the dataset is incomplete. Raises ValueError when ``target`` is another one."""
    complete = (target / METADATA_FILE).exists() or target.is_file()
    if complete:
        found_digest = read_metadata(target).source_digest
    elif (target / PARTIAL_FILE).exists():
        found_digest = _partial_digest(target / PARTIAL_FILE)
    else:
        target.mkdir(parents=True, exist_ok=True)
        values = {"kind": source.kind, "source_digest": expected_digest}
        write_yaml(target / PARTIAL_FILE, values)
        found_digest = expected_digest
    if found_digest != expected_digest:
        raise ValueError(
            f"{target}: expected a dataset of the same samples and options, found another one: "
            "delete it, or name another folder"
        )
    return not complete


def _partial_digest(path: Path) -> str:
    """The source digest of an incomplete dataset; empty when the file has none."""
    try:
        values = parse_yaml(path.read_bytes())
    except ValueError:
        return ""
    return str(values.get("source_digest", "")) if isinstance(values, dict) else ""


def align_undetected(source: DatasetSource, target: Path, shards: int) -> None:
    """Align undetected faces by the median affine of the dataset.

    Raises ValueError when no face was detected in any image.
    """
    keys = ("frame_to_crop", "size_px", "detected")
    parts: dict[str, list[NDArray]] = {key: [] for key in keys}
    for index in range(shards):
        with open_shard(shard_path(target, index)) as arrays:
            for key in keys:
                parts[key].append(arrays[key])
    affines, sizes_px, detected = (np.concatenate(parts[key]) for key in keys)
    if len(affines) == 0 or (source.tight_crops and not detected.any()):
        hint = "are they faces?" if source.tight_crops else "if faces fill them, use --tight-crops"
        raise ValueError(f"{target}: no face was detected in any image: {hint}")
    if np.isnan(affines).any():
        normalized = normalize_affine(affines[detected], sizes_px[detected])
        median = np.median(normalized, axis=0)
        for index in range(shards):
            _align_shard(source, shard_path(target, index), median)


def _align_shard(source: DatasetSource, path: Path, median: NDArray[np.float32]) -> None:
    with open_shard(path) as arrays:
        missing = np.flatnonzero(np.isnan(arrays["frame_to_crop"][:, 0, 0]))
        if len(missing) == 0:
            return
        columns = {key: arrays[key] for key in arrays.files}
    samples = [source.samples[index] for index in columns["index"][missing]]
    for entry, sample, data in zip(missing, samples, source.read(samples), strict=True):
        to_crop = denormalize_affine(median, columns["size_px"][entry])
        columns["frame_to_crop"][entry] = to_crop
        columns["padded_crop"][entry] = cut_padded_crop(decode_image(data, sample.name), to_crop)
        columns["padded_crop_hash"][entry] = pixel_hash(columns["padded_crop"][entry])
    write_shard(path, columns)


def report(source: DatasetSource, target: Path, shards: int) -> dict[str, Any]:
    """Counts of images and faces, and names of what was excluded."""
    excluded: dict[str, list[str]] = {name: [] for name in EXCLUDED_COLUMNS}
    faces = undetected = 0
    for index in range(shards):
        with open_shard(shard_path(target, index)) as arrays:
            faces += len(arrays)
            undetected += int((~arrays["detected"]).sum())
            for name in EXCLUDED_COLUMNS:
                excluded[name] += arrays[name].tolist()
    return {
        "images": len(source.samples),
        "faces": faces,
        "undetected_kept": undetected,
        "undetected_dropped": len(excluded["undetected"]),
        "undetected": excluded["undetected"],
        "undecodable": excluded["undecodable"],
        "dropped_labels": dict(sorted(source.dropped.items())),
        "skipped": dict(sorted(source.skipped.items())),
    }


def format_report(result: dict[str, Any]) -> str:
    """The report as one line."""
    names = result["undecodable"]
    examples = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
    examples = examples.encode(
        errors="backslashreplace"
    ).decode()  # names of files may be any bytes
    parts = [
        f"{result['faces']} faces of {result['images']} images",
        f"no face detected in {result['undetected_kept']} that were kept and "
        f"{result['undetected_dropped']} that were dropped",
        f"{len(names)} undecodable{f' ({examples})' if names else ''}",
        f"labels dropped: {_format_counts(result['dropped_labels'])}",
    ]
    if result["skipped"]:
        parts.append(f"not used: {_format_counts(result['skipped'])}")
    return "; ".join(parts)


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"


def is_partial(result: dict[str, Any]) -> bool:
    """Whether the dataset lacks images of its source."""
    return bool(result["undetected_dropped"] or result["undecodable"] or result["skipped"])


def prepare(
    source: DatasetSource, target: Path, detector: FaceDetector, shard_size: int = SHARD_SIZE
) -> dict[str, Any]:
    """Build or complete the dataset ``target``; return its report.

    Raises ValueError when another dataset is there, or no image has a face.
    """
    expected_digest = source_digest(source, shard_size)
    starts = range(0, len(source.samples), shard_size)
    if start_or_resume(source, target, expected_digest):
        with progress_bar(total=len(source.samples), description=target.name) as bar:
            for index, start in enumerate(starts):
                stop = min(start + shard_size, len(source.samples))
                if shard_path(target, index).exists():
                    bar.update(stop - start)
                    continue
                columns = make_shard(source, detector, start, stop, bar)
                write_shard(shard_path(target, index), columns)
        align_undetected(source, target, len(starts))
        keys = ("kind", "name", "split", "classes", "numbering", "tight_crops", "labels")
        fields = {key: getattr(source, key) for key in keys}
        finalize(target, len(starts), source_digest=expected_digest, **fields)
        (target / PARTIAL_FILE).unlink()
    result = report(source, target, len(starts))
    (target / "report.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 1 when the dataset lacks images of its source."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser)
    parser.add_argument("target", type=Path, help="folder of the new dataset")
    arguments = parser.parse_args(argv)
    try:
        source = from_arguments(arguments)
        result = prepare(source, arguments.target, make_dataset_detector(source.tight_crops))
    except (ValueError, OSError) as error:
        return report_error("prepare", error)
    if not source.labels and not source.has_landmarks:
        print(f"prepare: {arguments.source}: the images have no labels", file=sys.stderr)
    print(f"{arguments.target}: {format_report(result)}")
    return int(is_partial(result))


if __name__ == "__main__":
    raise SystemExit(main())
