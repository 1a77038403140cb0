"""Identify the code that produced a result."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_EXCLUDED_FOLDERS = {"cli", "ros"}


@cache
def code_version() -> str:
    """Version of the package and a digest of its source files, without ``cli`` and ``ros``.

    The digest covers changes that have no commit yet. It also covers the published detector
    files, whose sha256 is part of the sources, and the ranges of CenterFace in int8.
    """
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*")):
        name = file.relative_to(_PACKAGE)
        if file.suffix in {".py", ".json"} and name.parts[0] not in _EXCLUDED_FOLDERS:
            digest.update(f"{name}\0".encode() + file.read_bytes())
    try:
        release = version("fer_ros")
    except PackageNotFoundError:  # run from a checkout
        release = "source"
    return f"{release}+{digest.hexdigest()[:16]}"
