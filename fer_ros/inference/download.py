"""Download pretrained weights into the cache folder; only on explicit request."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib import request
from urllib.error import HTTPError

from fer_ros.inference.model_store import cache_folder, sha256_of
from fer_ros.io.atomic_write import atomic_write
from fer_ros.io.errors import single_line
from fer_ros.io.progress import progress_bar
from fer_ros.suggestions import did_you_mean

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 2**20

UrlOpener = Callable[[str], IO[bytes]]


class FetchError(ValueError):
    """A file cannot be downloaded."""


@dataclass(frozen=True)
class PretrainedFile:
    """A file on a server, its size in bytes and its sha256."""

    url: str
    size: int
    sha256: str

    @property
    def path(self) -> Path:
        """Path in the cache once downloaded."""
        return cache_folder() / self.url.rpartition("/")[2]


_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"

PRETRAINED = {
    "dinov2_vits14": PretrainedFile(
        f"{_DINOV2}/dinov2_vits14/dinov2_vits14_pretrain.pth",
        88_283_115,
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    ),
    "dinov2_vitb14": PretrainedFile(
        f"{_DINOV2}/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        346_378_731,
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    "dinov2_vitl14": PretrainedFile(
        f"{_DINOV2}/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        1_217_586_395,
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    ),
}
"""Weights by the name of their backbone (Oquab et al., 2024; Apache 2.0)."""

_OPENCV_ZOO = "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models"

DETECTORS = {
    "yunet": PretrainedFile(
        f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2026may.onnx",
        229_738,
        "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
    ),
    "yunet_2023mar": PretrainedFile(
        f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        232_589,
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
}
"""Face detectors by name and version (YuNet of the OpenCV Zoo; MIT)."""


def open_https(url: str) -> IO[bytes]:
    """Open a URL. Raises OSError or HTTPException.

    Only https is handled, so a redirect cannot lead to http.
    """
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.HTTPDefaultErrorHandler,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    query = request.Request(url, headers={"User-Agent": "fer_ros"})
    return opener.open(query, timeout=_TIMEOUT_S)


def fetch(name: str, open_url: UrlOpener = open_https) -> Path:
    """Return the verified file of PRETRAINED or DETECTORS, downloading it unless it is cached.

    Raises FetchError; a partial download is deleted.
    """
    published = PRETRAINED | DETECTORS
    if name not in published:
        hint = did_you_mean(name, published, f"known: {', '.join(published)}")
        raise FetchError(f"unknown pretrained weights {name!r}; {hint}")
    pretrained = published[name]
    try:
        if not pretrained.path.is_file() or sha256_of(pretrained.path) != pretrained.sha256:
            _download(pretrained, open_url)
    except OSError as error:
        raise FetchError(
            f"{pretrained.url}: cannot be stored as {pretrained.path}: {single_line(error)}; "
            "name a writable folder with free space in FER_ROS_CACHE"
        ) from None
    return pretrained.path


def _download(pretrained: PretrainedFile, open_url: UrlOpener) -> None:
    with atomic_write(pretrained.path) as partial, partial.open("wb") as file:
        _copy(pretrained, open_url, file)


def _copy(pretrained: PretrainedFile, open_url: UrlOpener, file: IO[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    bar = progress_bar(total=pretrained.size, unit="B", description=pretrained.path.name)
    with bar, closing(_chunks(pretrained, open_url)) as chunks:
        for chunk in chunks:
            digest.update(chunk)
            size += file.write(chunk)
            bar.update(len(chunk))
            if size > pretrained.size:  # not the expected file; do not fill the disk
                break
    if size < pretrained.size:
        raise FetchError(
            f"{pretrained.url}: ended after {size} of {pretrained.size} bytes; try again"
        )
    if digest.hexdigest() != pretrained.sha256:
        raise FetchError(
            f"{pretrained.url}: expected sha256 {pretrained.sha256[:12]}..., "
            f"found {digest.hexdigest()[:12]}...: not the published file; it was deleted; try "
            "again, on another network if this persists"
        )


def _chunks(pretrained: PretrainedFile, open_url: UrlOpener) -> Generator[bytes, None, None]:
    try:
        with open_url(pretrained.url) as response:
            while chunk := response.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, HTTPException) as error:
        raise FetchError(
            f"{pretrained.url}: cannot be read: {_reason(error)}; check the network and try again, "
            f"or download the file elsewhere and store it as {pretrained.path}"
        ) from None


def _reason(error: OSError | HTTPException) -> str:
    """Describe a network error in one line."""
    if isinstance(error, HTTPError):
        return single_line(f"{error.code} {error.reason}")
    return single_line(getattr(error, "reason", error))  # URLError wraps the system's error
