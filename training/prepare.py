"""``python -m training.prepare SRC OUT``: find, align and store every face once.

SRC is a data set in one of the layouts of ``training.sources``. OUT becomes a pack: a folder of
shards, which ``training.packs`` describes, with ``pack.yaml`` and ``report.json``. A call that was
killed loses one shard; the same call goes on. The same pictures give the same arrays.

Sets of tightly cropped faces (Parquet, FER+, or ``--tight``) have their own rule, because a
detector wants surroundings: each picture is scaled to 128 px, framed with grey up to 192 px and
searched with a low threshold. Where no face is found, a labelled picture is aligned by the median
map of its set, relative to the size of the picture, so that no test picture is lost; ``found`` says
which. Pictures without labels are dropped instead.

Ordinary photographs, AffectNet among them, are searched as they are, reduced to 320 px and with a
margin of grey for faces at the border. Of several faces the one counts that overlaps the given box
most, and without a box the largest. Where none is found, the given landmarks are used (``found`` is
false then), and a picture without any is dropped.

Whatever is dropped is counted in the report; pictures that do not decode, or in which no face was
found, are named there too.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.align import similarity
from fer_ros.config import parse_yaml
from fer_ros.detect import FaceDetector
from training.find import (
    absolute,
    canvas,
    decode,
    detector_for,
    find_face,
    find_in_photograph,
    in_crop,
    relative,
)
from training.packs import (
    CANVAS_PX,
    CARD,
    FORMAT,
    LEFT_OUT,
    PLAN,
    crop_rule,
    open_shard,
    pixel_hash,
    read_pack_card,
    seal,
    shard_path,
    write_shard,
    write_yaml,
)
from training.rows import Row, Source
from training.sources import add_arguments, from_arguments

SHARD_ROWS = 4096
_SHOWN_NAMES = 3


@dataclass(frozen=True)
class _Face:
    """A row of a shard in the making; without ``frame_to_crop`` its canvas is still to come."""

    place: int
    row: Row
    frame_to_crop: NDArray[np.float32]
    found: bool
    size_px: tuple[int, int]
    canvas: NDArray[np.uint8]
    pixel_hash: int


def _face(
    detector: FaceDetector, source: Source, place: int, row: Row, picture_rgb: NDArray[np.uint8]
) -> _Face | None:
    """The face of a picture; None when it has to be dropped."""
    if source.tight:
        points = find_face(detector, picture_rgb)
    else:
        points = find_in_photograph(detector, picture_rgb, row.box_xyxy)
    found = bool(np.isfinite(points).all())
    if not found and len(row.points_xy):
        points = row.points_xy
    if np.isfinite(points).all():
        to_crop = similarity(points[None])[0]
        cut = canvas(picture_rgb, to_crop)
    elif source.tight and source.labels:
        to_crop = np.full((2, 3), np.nan, np.float32)
        cut = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    else:
        return None
    size_px = (picture_rgb.shape[1], picture_rgb.shape[0])
    return _Face(place, row, to_crop, found, size_px, cut, pixel_hash(picture_rgb))


def make_shard(
    source: Source, detector: FaceDetector, start: int, stop: int, bar: "tqdm[Any]"
) -> dict[str, NDArray]:
    """The columns of the rows ``start`` to ``stop``, and the names of what is left out."""
    faces: list[_Face] = []
    left_out: dict[str, list[str]] = {name: [] for name in LEFT_OUT}
    for place, row, data in source.pictures(start, stop):
        bar.update()
        try:
            picture_rgb = decode(data, row.name)
        except ValueError as error:
            bar.write(f"prepare: {error}", file=sys.stderr)
            left_out["undecodable"].append(row.name)
            continue
        face = _face(detector, source, place, row, picture_rgb)
        if face is None:
            left_out["faceless"].append(row.name)
        else:
            faces.append(face)
    names = {name: np.array(values, np.str_) for name, values in left_out.items()}
    return _columns(faces, source.labels, source.annotated) | names


def _columns(faces: list[_Face], labels: str, annotated: bool) -> dict[str, NDArray]:
    count, rows = len(faces), [face.row for face in faces]
    canvases = np.array([face.canvas for face in faces], np.uint8)
    maps = np.array([face.frame_to_crop for face in faces], np.float32)
    columns: dict[str, NDArray] = {
        "name": np.array([row.name for row in rows], np.str_),
        "row": np.array([face.place for face in faces], np.int32),
        "canvas": canvases.reshape(count, CANVAS_PX, CANVAS_PX),
        "canvas_hash": _hashes(canvases),
        "pixel_hash": np.array([face.pixel_hash for face in faces], np.uint64),
        "frame_to_crop": maps.reshape(count, 2, 3),
        "size_px": np.array([face.size_px for face in faces], np.int32).reshape(count, 2),
        "found": np.array([face.found for face in faces], np.bool_),
        "identity": np.array([row.identity for row in rows], np.str_),
        "source": np.array([row.source for row in rows], np.str_),
        "dup_group": np.array([row.dup_group for row in rows], np.int32),
    }
    if labels == "votes":
        columns["votes"] = np.array([row.votes for row in rows], np.uint8).reshape(count, -1)
    elif labels:
        columns["label"] = np.array([row.label for row in rows], np.int8)
    if annotated:
        points_xy = np.array([row.points68_xy for row in rows], np.float32)
        columns["points68"] = in_crop(points_xy.reshape(count, 68, 2), columns["frame_to_crop"])
    return columns


def _hashes(canvases: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.array([pixel_hash(each) for each in canvases], np.uint64)


def plan_of(source: Source, shard_rows: int) -> str:
    """A digest of all that the shards depend on, but the pixels."""
    total = sha256(repr((FORMAT, shard_rows, crop_rule())).encode())
    total.update(repr((source.kind, source.tight, source.classes)).encode())
    for row in source.rows:
        known = (row.name, row.votes, row.label, row.identity, row.source, row.dup_group)
        total.update(repr(known).encode() + row.points68_xy.tobytes())
    return total.hexdigest()


def begin(source: Source, target: Path, plan: str) -> bool:
    """Whether ``target`` still has something to do. ValueError when another pack is in it."""
    done = (target / CARD).exists() or target.is_file()
    if done:
        before = read_pack_card(target).plan
    elif (target / PLAN).exists():
        before = _planned(target / PLAN)
    else:
        target.mkdir(parents=True, exist_ok=True)
        write_yaml(target / PLAN, {"kind": source.kind, "plan": plan})
        before = plan
    if before != plan:
        raise ValueError(
            f"{target}: expected a pack of the same rows and options, found another one: delete "
            "it, or name another folder"
        )
    return not done


def _planned(path: Path) -> str:
    """The plan of a pack that was begun; empty when the file says none."""
    try:
        said = parse_yaml(path.read_bytes())
    except ValueError:
        return ""
    return str(said.get("plan", "")) if isinstance(said, dict) else ""


def settle(source: Source, target: Path, shards: int) -> None:
    """Aligns what the detector did not find by the median map of the set. ValueError: no face."""
    keys = ("frame_to_crop", "size_px", "found")
    parts: dict[str, list[NDArray]] = {key: [] for key in keys}
    for index in range(shards):
        with open_shard(shard_path(target, index)) as arrays:
            for key in keys:
                parts[key].append(arrays[key])
    maps, sizes_px, found = (np.concatenate(parts[key]) for key in keys)
    if len(maps) == 0 or (source.tight and not found.any()):
        hint = "is it a set of faces?" if source.tight else "do faces fill them? Then try --tight"
        raise ValueError(f"{target}: no face was found in any picture: {hint}")
    if np.isnan(maps).any():
        typical = np.median(relative(maps[found], sizes_px[found]), axis=0)
        for index in range(shards):
            _settle_shard(source, shard_path(target, index), typical)


def _settle_shard(source: Source, path: Path, typical: NDArray[np.float32]) -> None:
    with open_shard(path) as arrays:
        missing = np.flatnonzero(np.isnan(arrays["frame_to_crop"][:, 0, 0]))
        if len(missing) == 0:
            return
        columns = {key: arrays[key] for key in arrays.files}
    rows = [source.rows[place] for place in columns["row"][missing]]
    for index, row, data in zip(missing, rows, source.read(rows), strict=True):
        to_crop = absolute(typical, columns["size_px"][index])
        columns["frame_to_crop"][index] = to_crop
        columns["canvas"][index] = canvas(decode(data, row.name), to_crop)
        columns["canvas_hash"][index] = pixel_hash(columns["canvas"][index])
    write_shard(path, columns)


def report(source: Source, target: Path, shards: int) -> dict[str, Any]:
    """What became of the pictures."""
    left_out: dict[str, list[str]] = {name: [] for name in LEFT_OUT}
    faces = unfound = 0
    for index in range(shards):
        with open_shard(shard_path(target, index)) as arrays:
            faces += len(arrays["found"])
            unfound += int((~arrays["found"]).sum())
            for name in LEFT_OUT:
                left_out[name] += arrays[name].tolist()
    return {
        "pictures": len(source.rows),
        "faces": faces,
        "without_face_aligned": unfound,
        "without_face_dropped": len(left_out["faceless"]),
        "faceless": left_out["faceless"],
        "undecodable": left_out["undecodable"],
        "dropped_labels": dict(sorted(source.dropped.items())),
    }


def in_words(found: dict[str, Any]) -> str:
    """The report as one line."""
    names = found["undecodable"]
    shown = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
    shown = shown.encode(errors="backslashreplace").decode()  # names of files may be any bytes
    dropped = ", ".join(f"{count} {reason}" for reason, count in found["dropped_labels"].items())
    return (
        f"{found['faces']} faces of {found['pictures']} pictures; no face found in "
        f"{found['without_face_aligned']} that were kept and {found['without_face_dropped']} that "
        f"were dropped; {len(names)} undecodable{f' ({shown})' if names else ''}; labels dropped: "
        f"{dropped or 'none'}"
    )


def prepare(
    source: Source, target: Path, detector: FaceDetector, shard_rows: int = SHARD_ROWS
) -> dict[str, Any]:
    """Makes or completes the pack ``target``; returns its report.

    ValueError, one line, when another pack is there or no picture has a face.
    """
    plan = plan_of(source, shard_rows)
    starts = range(0, len(source.rows), shard_rows)
    if begin(source, target, plan):
        with tqdm(total=len(source.rows), desc=target.name) as bar:
            for index, start in enumerate(starts):
                stop = min(start + shard_rows, len(source.rows))
                if shard_path(target, index).exists():
                    bar.update(stop - start)
                    continue
                write_shard(
                    shard_path(target, index), make_shard(source, detector, start, stop, bar)
                )
        settle(source, target, len(starts))
        keys = ("kind", "dataset", "split", "classes", "tight", "labels")
        seal(target, len(starts), plan=plan, **{key: getattr(source, key) for key in keys})
        (target / PLAN).unlink()
    found = report(source, target, len(starts))
    (target / "report.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser)
    parser.add_argument("target", type=Path, help="folder of the new pack")
    arguments = parser.parse_args()
    try:
        source = from_arguments(arguments)
        found = prepare(source, arguments.target, detector_for(source.tight))
    except (ValueError, OSError) as error:
        sys.exit(f"prepare: {error}")
    print(f"{arguments.target}: {in_words(found)}")


if __name__ == "__main__":
    main()
