"""Downloads of pretrained weights: verified or deleted. An opener stands in for the network."""

import hashlib
import io
import re
import resource
import ssl
from email.message import Message
from http.client import IncompleteRead
from pathlib import Path
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.response import addinfourl

import pytest

from fer_ros.inference.download import (
    PRETRAINED,
    FetchError,
    PretrainedFile,
    cache_folder,
    fetch,
    open_https,
)
from fer_ros.models.backbones.registry import BACKBONES

CONTENT = bytes(range(250)) * 10_000  # more than one piece
URL = "https://example.org/files/small.pth"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The cache, which is not there yet; one small file can be fetched into it."""
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "cache" / "fer_ros"))
    small = PretrainedFile(URL, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(PRETRAINED, "small", small)
    return tmp_path / "cache" / "fer_ros"


class Server:
    """Answers with ``body``, or fails with ``error`` once that was read."""

    def __init__(self, body: bytes = CONTENT, error: BaseException | None = None) -> None:
        self.body, self.error = io.BytesIO(body), error
        self.requested: list[str] = []

    def __call__(self, url: str) -> "Server":
        self.requested.append(url)
        return self

    def read(self, size: int) -> bytes:
        piece = self.body.read(size)
        if not piece and self.error:
            raise self.error
        return piece

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error) -> None:
        self.body.close()


class Endless(Server):
    def read(self, size: int) -> bytes:
        assert self.body.tell() < 10 * len(CONTENT), "it should have been stopped"
        self.body.write(bytes(size))
        return bytes(size)


def refused(server: Server, folder: Path) -> str:
    """The message of the error: one line that names the file. No file is left."""
    with pytest.raises(FetchError) as caught:
        fetch("small", server)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{URL}: ")
    assert not folder.is_dir() or list(folder.iterdir()) == []
    return str(caught.value)


def test_a_file_is_fetched_once(folder):
    server = Server()
    path = fetch("small", server)
    assert (path, path.read_bytes()) == (folder / "small.pth", CONTENT)
    assert [file.name for file in folder.iterdir()] == ["small.pth"]
    assert fetch("small", server) == path
    assert server.requested == [URL]


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[::-1]])
def test_a_damaged_file_is_fetched_again(folder, content):
    folder.mkdir(parents=True)
    (folder / "small.pth").write_bytes(content)
    assert fetch("small", Server()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Server(b""), "ended after 0 of 2500000 bytes; try again"),
        (Server(CONTENT[:-1]), "ended after 2499999 of 2500000 bytes; try again"),
        (Server(CONTENT[::-1]), "expected sha256 [0-9a-f]{12}..., found .* it was deleted"),
        (Server(CONTENT + b"x"), "expected sha256"),
        (Endless(b""), "expected sha256"),
    ],
    ids=["empty", "short", "other", "long", "endless"],
)
def test_another_file_is_rejected(folder, server, words):
    assert re.search(words, refused(server, folder))


def http_error(code: int, reason: str) -> HTTPError:
    return HTTPError(URL, code, reason, Message(), io.BytesIO())


@pytest.mark.parametrize("body", [b"", CONTENT[:1_500_000]], ids=["at once", "half way"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (URLError(OSError(-3, "Temporary failure in name resolution")), "Temporary failure in"),
        (http_error(404, "Not Found"), "cannot be read: 404 Not Found"),
        (http_error(503, "two\nlines"), "503 two lines"),
        (TimeoutError(), "TimeoutError"),
        (TimeoutError("The read operation timed out"), "timed out"),
        (ssl.SSLCertVerificationError(1, "self-signed certificate"), "self-signed certificate"),
        (IncompleteRead(b"abc", 10), "IncompleteRead"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_network_failure_is_reported_in_one_line(folder, error, words, body):
    error_line = refused(Server(body, error), folder)
    assert words in error_line
    assert error_line.endswith(
        f"try again, or download the file elsewhere and store it as {folder}/small.pth"
    )


def test_a_failed_download_keeps_the_existing_file(folder):
    folder.mkdir(parents=True)
    (folder / "other.pth").write_bytes(b"another file")
    with pytest.raises(FetchError):
        fetch("small", Server(error=TimeoutError(), body=b""))
    assert [file.name for file in folder.iterdir()] == ["other.pth"]


def test_an_interrupted_download_leaves_no_file(folder):
    with pytest.raises(KeyboardInterrupt):
        fetch("small", Server(CONTENT[:1_500_000], KeyboardInterrupt()))
    assert list(folder.iterdir()) == []


def test_an_uncreatable_folder_is_reported(folder):
    folder.parent.write_text("a file stands there")
    error_line = refused(Server(), folder)
    assert (
        f"cannot be stored as {folder}/small.pth: Not a directory; name a writable folder"
        in error_line
    )


def test_a_full_disk_is_reported(folder):
    """A limit on the size of files fails in the same place."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        error_line = refused(Server(), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be stored" in error_line
    assert "FER_ROS_CACHE" in error_line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "known: dinov2_vits14, "),
        ("../../.bashrc", "known: "),
        ("/etc/passwd", "known: "),
        ("dinov2_vits15", "did you mean 'dinov2_vits14'"),
    ],
)
def test_names_come_from_a_table(folder, name, words):
    with pytest.raises(FetchError, match=words):
        fetch(name, Server())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("ours", "given", "expected"),
    [
        (None, None, "home/.cache/fer_ros"),
        ("", "", "home/.cache/fer_ros"),
        ("relative", "relative", "home/.cache/fer_ros"),
        (None, "TMP/xdg", "xdg/fer_ros"),
        ("TMP/ours", "TMP/xdg", "ours"),
    ],
)
def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch, ours, given, expected):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in (("FER_ROS_CACHE", ours), ("XDG_CACHE_HOME", given)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value.replace("TMP", str(tmp_path)))
    assert cache_folder() == tmp_path / expected


@pytest.mark.parametrize(
    "url", ["http://localhost/a.pth", "ftp://localhost/a.pth", "file:///a.pth"]
)
def test_only_https_is_supported(url):
    with pytest.raises(URLError, match="unknown url type"):
        open_https(url)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://example.org/a.pth", "unknown url type"),
        ("ftp://example.org/a.pth", "unknown url type"),
        ("file:///etc/passwd", "not allowed"),
    ],
)
def test_redirects_to_http_are_refused(monkeypatch, location, words):
    class Redirects(request.BaseHandler):
        def https_open(self, requested):
            headers = Message()
            headers["Location"] = location
            result = addinfourl(io.BytesIO(), headers, requested.full_url, 302)
            result.msg = "Found"
            return result

    monkeypatch.setattr(request, "HTTPSHandler", Redirects)
    with pytest.raises(URLError, match=words):
        open_https(URL)


def test_redirects_within_https_are_followed(monkeypatch):
    class Moved(request.BaseHandler):
        def https_open(self, requested):
            headers = Message()
            headers["Location"] = "https://example.net/b.pth"
            code = 302 if requested.host == "example.org" else 200
            result = addinfourl(io.BytesIO(b"weights"), headers, requested.full_url, code)
            result.msg = ""
            return result

    monkeypatch.setattr(request, "HTTPSHandler", Moved)
    assert open_https(URL).read() == b"weights"


def test_the_table_is_complete():
    table = {name: expected_value for name, expected_value in PRETRAINED.items() if name != "small"}
    assert {"dinov2_vits14"} <= set(table) <= set(BACKBONES)
    for name, expected_value in table.items():
        assert expected_value.url.startswith("https://")
        assert name in expected_value.url
        assert len(bytes.fromhex(expected_value.sha256)) == 32
        assert expected_value.size > 1e6
    assert len({expected_value.path for expected_value in table.values()}) == len(table)
