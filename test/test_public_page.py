"""The names that ``import fer_ros`` gives, and when."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from test_boundary import imported

import fer_ros


def test_nothing_is_loaded_before_it_is_asked_for():
    """So a program can say how it takes signals before seconds of imports."""
    question = "import sys, fer_ros; print(*{'numpy', 'cv2', 'torch', 'yaml'} & {*sys.modules})"
    command = [sys.executable, "-c", question]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stdout == "\n"


def test_names_are_those_that_type_checkers_see():
    page = Path(fer_ros.__file__)
    told = [name for name in imported(ast.parse(page.read_text()), page) if "fer_ros." in name]
    assert sorted(name.split(".")[-1] for name in told) == sorted(fer_ros.__all__)
    for name in told:
        module, _, what = name.rpartition(".")
        assert getattr(fer_ros, what) is getattr(import_module(module), what)
        assert what in dir(fer_ros)


def test_other_names_are_none():
    with pytest.raises(AttributeError, match="'fer_ros' has no attribute 'nothing'"):
        fer_ros.nothing  # noqa: B018
