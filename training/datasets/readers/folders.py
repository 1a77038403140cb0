"""Images in class folders, and images without labels."""

import re
from collections import Counter
from pathlib import Path

from fer_ros.emotions import EMOTIONS, to_emotion
from training.datasets.records import (
    DatasetSource,
    Sample,
    SourceRequest,
    dataset_name,
    image_files,
    is_image_file,
    split_of,
    subfolders,
    truncated_repr,
    unreadable_images,
)

NUMBERINGS = {
    "affectnet": dict(enumerate(EMOTIONS)),
    "fer2013": dict(
        enumerate(("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"))
    ),
    "rafdb": dict(
        enumerate(
            ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), start=1
        )
    ),
}
"""Emotions by number: AffectNet (0..7), FER2013 (0..6) and RAF-DB (1..7)."""

_NUMBER = re.compile(r"\d{1,2}", re.ASCII)
_NUMBERED_NAME = re.compile(r"\d{1,3}\s*[_\-. ]\s*(.+)", re.ASCII)


def read_folders(request: SourceRequest) -> DatasetSource:
    """One folder of images for each emotion, in a folder of the split or not.

    A folder whose name denotes no emotion is skipped and counted. Raises ValueError when a class
    folder is empty, or when the numbers of folders are ambiguous.
    """
    top = request.path
    if class_labels(top):
        request.refuse_split()
    else:
        splits = {split_of(folder.name): folder for folder in subfolders(top)}
        splits.pop("", None)
        top = request.choose(splits)
    labels = class_labels(top)
    names = sorted(folder.name for folder in labels if _NUMBER.fullmatch(folder.name))
    emotions = numbered_emotions(top, names, request.numbering) if names else {}
    samples: list[Sample] = []
    outside = len(image_files(top)) + unreadable_images(top).total()
    skipped: Counter[str] = Counter({"images outside of the class folders": outside})
    for folder in subfolders(top):
        emotion = labels.get(folder) or emotions.get(folder.name)
        files = image_files(folder, nested=True)
        unreadable = unreadable_images(folder, nested=True)
        if emotion is None:
            count = len(files) + unreadable.total()
            skipped[f"images in folder {truncated_repr(folder.name)}, which is no emotion"] += count
            continue
        skipped += unreadable
        if not files:
            raise ValueError(f"{folder}: expected images, found none; remove the folder")
        samples += [
            Sample(file.relative_to(top).as_posix(), file, label=EMOTIONS.index(emotion))
            for file in files
        ]
    return DatasetSource("folders", dataset_name(top), samples, skipped=+skipped)


def class_labels(folder: Path) -> dict[Path, str]:
    """Emotions of the class folders in a folder; empty text for those that are only numbers.

    ``Freude``, ``0_angry`` and ``neutrality`` denote emotions. Empty when no folder does.
    """
    labels: dict[Path, str] = {}
    for subfolder in subfolders(folder) if folder.is_dir() else []:
        match = _NUMBERED_NAME.fullmatch(subfolder.name)
        try:
            labels[subfolder] = to_emotion(match[1] if match else subfolder.name)
        except ValueError:
            if _NUMBER.fullmatch(subfolder.name):
                labels[subfolder] = ""
    named = [emotion for emotion in labels.values() if emotion]
    return labels if named or _looks_numbered(labels) else {}


def _looks_numbered(labels: dict[Path, str]) -> bool:
    """Whether numbers are classes: at least two, all of them small."""
    numbers = {int(folder.name) for folder, emotion in labels.items() if not emotion}
    return len(numbers) >= 2 and max(numbers) < len(EMOTIONS)


def numbered_emotions(where: Path, names: list[str], numbering: str) -> dict[str, str]:
    """Emotions of class folders that are numbers, by name of the folder.

    Raises ValueError when more than one numbering, or none, has exactly these numbers and none is
    requested.
    """
    numbers = {int(name) for name in names}
    matches = [key for key, emotions in NUMBERINGS.items() if numbers == emotions.keys()]
    if numbers == NUMBERINGS["affectnet"].keys() - {EMOTIONS.index("contempt")}:
        matches.append("affectnet")  # AffectNet-7
    if not numbering and len(matches) != 1:
        raise ValueError(
            f"{where}: class folders {', '.join(names)} do not determine the emotions: name "
            f"the numbering with --numbering ({', '.join(NUMBERINGS)}), or rename the folders"
        )
    emotions = NUMBERINGS[numbering or matches[0]]
    unknown = sorted(numbers - emotions.keys())
    if unknown:
        raise ValueError(f"{where}: --numbering {numbering} has no class {unknown[0]}")
    return {name: emotions[int(name)] for name in names}


def read_faces(request: SourceRequest) -> DatasetSource:
    """Images without labels, in one folder or nested ones.

    Raises ValueError when a split is requested.
    """
    request.refuse_split()
    files = image_files(request.path, nested=True)
    samples = [Sample(file.relative_to(request.path).as_posix(), file) for file in files]
    skipped = unreadable_images(request.path, nested=True)
    return DatasetSource("faces", dataset_name(request.path), samples, skipped=skipped)


def is_class_folders(path: Path) -> bool:
    """Whether there are class folders, in a folder of a split or not."""
    inside = subfolders(path) if path.is_dir() else []
    return bool(class_labels(path)) or any(
        split_of(folder.name) and class_labels(folder) for folder in inside
    )


def is_faces(path: Path) -> bool:
    """Whether there are images, or files that should be.

    Raises ValueError for several folders of images without one beside them: they look like class
    folders whose names denote no emotion, and their labels must not be lost without a word.
    """
    if not path.is_dir():
        return False
    files = [*image_files(path, nested=True)]
    if not files:
        return bool(unreadable_images(path, nested=True))
    tops = {file.relative_to(path).parts[0] for file in files}
    if len(tops) > 1 and not any(is_image_file(path / name) for name in tops):
        names = ", ".join(truncated_repr(name) for name in sorted(tops)[:8])
        raise ValueError(
            f"{path}: expected class folders named as emotions, found {names}: rename them, or "
            "prepare the images without labels by --kind faces"
        )
    return True
