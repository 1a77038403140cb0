"""Weights that others published, from the network into a cache folder: only when a person asks."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib import request
from urllib.error import HTTPError

from tqdm import tqdm

from fer_ros.errors import one_line
from fer_ros.files import whole_file
from fer_ros.weights import cache_folder, sha256_of

_TIMEOUT_S = 30.0  # without a single byte
_PIECE = 2**20

Open = Callable[[str], IO[bytes]]


class FetchError(ValueError):
    """A file cannot be brought; the message is one line."""


@dataclass(frozen=True)
class Published:
    """A file on a server, its size in bytes and its digest."""

    url: str
    size: int
    sha256: str

    @property
    def path(self) -> Path:
        """Where in the cache it stands once it was fetched."""
        return cache_folder() / self.url.rpartition("/")[2]


_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"

PUBLISHED = {
    "dinov2_vits14": Published(
        f"{_DINOV2}/dinov2_vits14/dinov2_vits14_pretrain.pth",
        88_283_115,
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    ),
    "dinov2_vitb14": Published(
        f"{_DINOV2}/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        346_378_731,
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    "dinov2_vitl14": Published(
        f"{_DINOV2}/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        1_217_586_395,
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    ),
}
"""Weights by the name of the image stream that they are for (Oquab et al., 2024; Apache 2.0)."""


def open_https(url: str) -> IO[bytes]:
    """The body of the answer. Raises OSError or HTTPException.

    There is nothing here that speaks http, so a redirection cannot lead away from https.
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
    asked = request.Request(url, headers={"User-Agent": "fer_ros"})
    return opener.open(asked, timeout=_TIMEOUT_S)


def fetch(name: str, open_url: Open = open_https) -> Path:
    """The file of a name in PUBLISHED, verified; downloaded unless it is in the cache already.

    Raises FetchError, and then keeps nothing of what came.
    """
    if name not in PUBLISHED:
        close = get_close_matches(name, PUBLISHED, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(PUBLISHED)}"
        raise FetchError(f"no published weights are known as {name!r}; {hint}")
    wanted = PUBLISHED[name]
    try:
        if not wanted.path.is_file() or sha256_of(wanted.path) != wanted.sha256:
            _download(wanted, open_url)
    except OSError as error:
        raise FetchError(
            f"{wanted.url}: cannot be stored as {wanted.path}: {one_line(error)}; "
            "make room there, or name another folder in FER_ROS_CACHE"
        ) from None
    return wanted.path


def _download(wanted: Published, open_url: Open) -> None:
    with whole_file(wanted.path) as partial, partial.open("wb") as file:
        _copy(wanted, open_url, file)


def _copy(wanted: Published, open_url: Open, file: IO[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    bar = tqdm(total=wanted.size, unit="B", unit_scale=True, disable=None, desc=wanted.path.name)
    with bar, closing(_pieces(wanted, open_url)) as pieces:
        for piece in pieces:
            digest.update(piece)
            size += file.write(piece)
            bar.update(len(piece))
            if size > wanted.size:  # whatever this is: it must not fill the disk
                break
    if size < wanted.size:
        raise FetchError(f"{wanted.url}: ended after {size} of {wanted.size} bytes; try again")
    if digest.hexdigest() != wanted.sha256:
        raise FetchError(
            f"{wanted.url}: expected sha256 {wanted.sha256[:12]}..., "
            f"found {digest.hexdigest()[:12]}...: not the file that was published; nothing of it "
            "is kept; try again, on another network if it stays so"
        )


def _pieces(wanted: Published, open_url: Open) -> Generator[bytes, None, None]:
    try:
        with open_url(wanted.url) as answer:
            while piece := answer.read(_PIECE):
                yield piece
    except (OSError, HTTPException) as error:
        raise FetchError(
            f"{wanted.url}: cannot be read: {_reason(error)}; check the network and try again, "
            f"or bring the file by other ways and store it as {wanted.path}"
        ) from None


def _reason(error: OSError | HTTPException) -> str:
    """One line, whatever a server or a library said."""
    if isinstance(error, HTTPError):
        return one_line(f"{error.code} {error.reason}")
    return one_line(getattr(error, "reason", error))  # URLError wraps what the system said
