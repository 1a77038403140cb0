"""What README.md and CONTRIBUTING.md name is in the tree."""

import ast
import contextlib
import re
import shlex
from pathlib import Path

import cv2
import pytest
from tree import ROOT, project_files

from fer_ros import cli

FILES = project_files()
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
# What a reader has, what a command makes; everything else that looks like a path is ours.
THEIRS = re.compile(r"(\.venv|out|build|install|~|/|src|\$|video\.mp4|portrait\.jpg|holidays/|drawn/|folder/|faces\.jsonl)")
SUFFIX = r"py|md|rst|yaml|yml|xml|txt|cfg|toml|sh|json|onnx|safetensors"
PATH = re.compile(rf"[\w.~$/-]*\w\.(?:{SUFFIX})\b|[\w.~$-]+/[\w.~$/-]*")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The words of each command line of the fenced blocks of ``page``, without comments."""
    blocks = [body for language, body in FENCE.findall(PAGES[page]) if not language]
    lines = [line for body in blocks for line in body.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]

