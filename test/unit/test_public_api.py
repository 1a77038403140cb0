"""The names that ``import fer_ros`` gives, and when."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tree import imported

import fer_ros


def test_imports_are_lazy():
    """So a program can say how it takes signals before seconds of imports."""
    question = "import sys, fer_ros; print(*{'numpy', 'cv2', 'torch', 'yaml'} & {*sys.modules})"
    command = [sys.executable, "-c", question]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout == "\n"


def test_exported_names_match_the_type_checker():
    page = Path(fer_ros.__file__)
    documented = [
        name for name in imported(ast.parse(page.read_text()), page) if "fer_ros." in name
    ]
    assert sorted(name.split(".")[-1] for name in documented) == sorted(fer_ros.__all__)
    for name in documented:
        module, _, what = name.rpartition(".")
        assert getattr(fer_ros, what) is getattr(import_module(module), what)
        assert what in dir(fer_ros)


def test_unknown_names_raise_attribute_error():
    with pytest.raises(AttributeError, match="'fer_ros' has no attribute 'nothing'"):
        fer_ros.nothing  # noqa: B018
