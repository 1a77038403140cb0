"""Image files, videos, folders of them, and live streams as RGB images."""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.io.animation import count_frames, is_animated, read_frames
from fer_ros.io.errors import single_line
from fer_ros.io.folder_tree import list_tree
from fer_ros.io.image_decoding import (
    ConversionError,
    WarningCallback,
    decode_image_file,
    ignore_warning,
)
from fer_ros.io.image_format import image_format, image_format_of
from fer_ros.io.path_kind import FILE, FOLDER, NOTHING, path_kind
from fer_ros.io.video import (
    IncompleteMediaError,
    MediaError,
    MediaImage,
    VideoReader,
    open_video,
    promised_count,
)

_log = logging.getLogger(__name__)

_JPEG_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif"}
HEIF_SUFFIXES = {".heic", ".heif"}
IMAGE_SUFFIXES = (
    _JPEG_SUFFIXES
    | HEIF_SUFFIXES
    | {".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".avif"}
)
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"}
_HEIF_PACKAGE = "pillow_heif"


class MediaListing(NamedTuple):
    """Files of a path: those that can be read, HEIF images without a decoder, and others.

    ``unreadable`` has "PATH: REASON" of folders that cannot be read, broken links, and devices.
    """

    files: list[Path]
    undecodable: list[Path]
    others: list[Path]
    unreadable: list[str]


def open_media(path: Path | str) -> Iterator[MediaImage]:
    """Return the images of a file, or of all images and videos in and below a folder.

    Raises:
        MediaError: immediately when there is nothing to read, later at the first file that cannot
            be read.
    """
    files = media_files(path)
    return (image for file in files for image in read_file(file))


def list_media(path: Path | str) -> MediaListing:
    """List ``path`` itself if it is a file, else the files of the folder and its subfolders.

    Links to folders are followed; hidden files and folders are left out. Raises MediaError when
    there is no such path.
    """
    if not str(path):
        raise MediaError("the path is empty: name a file or a folder")
    path = Path(path)
    kind = path_kind(path)
    if kind == FILE:
        return MediaListing([path], [], [], [])
    if kind == NOTHING:
        raise MediaError(f"{path}: no such file or folder")
    if kind != FOLDER:
        raise MediaError(f"{path}: expected a file or a folder, found {kind}")
    try:
        files, unreadable = list_tree(path)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {single_line(error)}") from None
    has_heif = find_spec(_HEIF_PACKAGE) is not None
    listing = MediaListing([], [], [], unreadable)
    for file in files:
        suffix = file.suffix.lower()
        if suffix in HEIF_SUFFIXES and not has_heif:
            listing.undecodable.append(file)
        elif suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            listing.files.append(file)
        else:
            listing.others.append(file)
    return listing


def skipped_errors(path: Path | str, listing: MediaListing) -> list[str]:
    """One line for each kind of files that are left out of a listing."""
    errors = []
    if listing.unreadable:
        errors.append(_unreadable_error(path, listing))
    if listing.undecodable:
        errors.append(_undecodable_error(path, listing))
    if listing.others:
        errors.append(
            f"{path}: {len(listing.others)} files are no images or videos and skipped, the first "
            f"{listing.others[0].name}"
        )
    return errors


def _unreadable_error(path: Path | str, listing: MediaListing) -> str:
    count, first = len(listing.unreadable), listing.unreadable[0]
    return f"{path}: {count} files or folders cannot be read, the first {first}"


def _undecodable_error(path: Path | str, listing: MediaListing) -> str:
    return (
        f"{path}: {len(listing.undecodable)} HEIC images cannot be read, the first "
        f"{listing.undecodable[0].name}: pip install pillow-heif"
    )


def media_files(path: Path | str) -> list[Path]:
    """``path`` itself if it is a file, else the images and videos of the folder, by name.

    Raises MediaError when there is no such path, the folder has none, or one has no decoder. Logs a
    warning when a part of the folder cannot be read.
    """
    listing = list_media(path)
    if listing.undecodable:
        raise MediaError(_undecodable_error(path, listing))
    if listing.unreadable:
        _log.warning(_unreadable_error(path, listing))
    if not listing.files:
        raise MediaError(f"{path}: the folder holds no image and no video")
    return listing.files


def is_stream(source: str) -> bool:
    """Whether ``source`` is a URL such as ``rtsp://...`` or a device such as ``/dev/video0``."""
    return "://" in source or source.startswith("/dev/video")


def read_stream(source: str) -> Iterator[MediaImage]:
    """The images of a live stream, stamped with the time since the first.

    Raises MediaError when there are none, IncompleteMediaError when they end, unless the URL is
    that of a file.
    """
    video = open_video(source)
    promised = promised_count(video)  # 0: no file
    first_s, count = None, 0
    try:
        while (captured := video.read())[0]:
            now_s = monotonic()
            first_s = now_s if first_s is None else first_s
            count += 1
            image_rgb = np.asarray(cv2.cvtColor(captured[1], cv2.COLOR_BGR2RGB), np.uint8)
            yield MediaImage(source, now_s - first_s, image_rgb)
    finally:
        video.release()
    if first_s is None:
        raise MediaError(
            f"{source}: no images; expected a stream or device that OpenCV can open: check the "
            "address, the permissions, and that no other program uses it"
        )
    if not 0 < promised <= count:
        raise IncompleteMediaError(
            f"{source}: the stream ended after {count} images: check the camera and the network"
        )


def is_video(file: Path) -> bool:
    """Whether a file is a video or an animation, by its suffix and its content."""
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        return suffix in VIDEO_SUFFIXES or is_animated(file)
    return image_format_of(file) is None or is_animated(file)


def count_images(file: Path) -> int:
    """Return 1 for an image, the frame count in the header of a video, 0 if that is unknown."""
    if is_animated(file):
        return count_frames(file)
    if not is_video(file):
        return 1
    try:
        video = open_video(file)
    except MediaError:
        return 0  # reading the file reports why
    count = promised_count(video)
    video.release()
    return count


def read_file(file: Path, warn: WarningCallback = ignore_warning) -> Iterator[MediaImage]:
    """Yield the images of one file.

    Images of videos and animations have the time of the file's own clock. Damaged parts of videos
    are skipped. ``warn`` takes one line about an image file whose bit depth was inferred.

    Raises:
        IncompleteMediaError: after the last image of a file, if some are missing.
        MediaError: nothing in the file can be read.
    """
    if is_animated(file):
        yield from _read_animation(file)
    elif is_video(file):
        yield from VideoReader(file)
    else:
        yield MediaImage(str(file), 0.0, _read_image(file, warn))
        pages = count_frames(file)
        if pages > 1:
            raise IncompleteMediaError(
                f"{file}: the first of {pages} pages is read: split the file into one for each page"
            )


def _read_image(file: Path, warn: WarningCallback) -> NDArray[np.uint8]:
    if file.suffix.lower() in HEIF_SUFFIXES:
        return _read_heif(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MediaError(f"{file}: cannot be read: {single_line(error)}") from None
    form = image_format(data)
    try:
        if form == "GIF" and not cv2.haveImageWriter("a.gif"):  # OpenCV before 4.11
            return next(read_frames(file))[1]
        return decode_image_file(data, warn)
    except ConversionError as error:
        problem = error if form else f"not an image: {error}"
        raise MediaError(f"{file}: {problem}") from None


def _read_animation(file: Path) -> Iterator[MediaImage]:
    count = 0
    try:
        for stamp_s, image_rgb in read_frames(file):
            count += 1
            yield MediaImage(str(file), stamp_s, image_rgb)
    except ConversionError as error:
        if not count:
            raise MediaError(f"{file}: {error}") from None
        raise IncompleteMediaError(f"{file}: ends after image {count}: {error}") from None


def _read_heif(file: Path) -> NDArray[np.uint8]:
    try:
        import pillow_heif
    except ImportError:
        raise MediaError(
            f"{file}: HEIC images need another package: pip install pillow-heif"
        ) from None
    try:
        image = pillow_heif.open_heif(file, convert_hdr_to_8bit=True).to_pillow()
    except (OSError, ValueError, RuntimeError) as error:  # of libheif
        raise MediaError(f"{file}: not an image: {single_line(error)}") from None
    return np.ascontiguousarray(image.convert("RGB"), np.uint8)
