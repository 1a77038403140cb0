"""Rules for the source code: layers, imports, sizes, exceptions, pickles, pins, words."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tree import ROOT, imported, project_files

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
ROS_ONLY = re.compile(r"rclpy|cv_bridge|launch|launch_ros|\w+_(msgs|srvs|interfaces)")
PICKLES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
PICKLE_ERROR = "pickle.UnpicklingError"  # what torch.load(weights_only=True) refuses with
LINT_IMPORTS = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename=sys.argv[1], no_cache=True))
"""
needs_import_linter = pytest.mark.skipif(
    find_spec("importlinter") is None, reason="import-linter of requirements/dev.txt is missing"
)
OWN_MACHINE = re.compile(r"(?<![\w.>])/(?:home|root|work|Users)/\w")
PIN = re.compile(r"[A-Za-z0-9_.-]+==[\w.+]+( ; python_version .*)?")
# NVIDIA's index has no older versions to pin.
NO_PIN = {"jetson7.txt"}

FILES = project_files()
SOURCES = {
    name: (ROOT / name).read_text()
    for name in FILES
    if name.suffix == ".py" and name.parts[0] in {"fer_ros", "training", "test", "launch"}
}


def ros_outside_ros(tree: ast.AST, path: Path) -> Iterator[str]:
    if path.parts[0] not in {"fer_ros", "training"} or path.parts[:2] == ("fer_ros", "ros"):
        return
    for name in imported(tree, path):
        if ROS_ONLY.fullmatch(name.split(".")[0]):
            yield f"{path}: imports {name}; only fer_ros/ros/ may"


def long_functions(tree: ast.AST, path: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno} {node.name}: {lines} lines"


def catch_alls(tree: ast.AST, path: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        caught: list[ast.expr | None] = []
        if isinstance(node, ast.ExceptHandler):
            caught = [*node.type.elts] if isinstance(node.type, ast.Tuple) else [node.type]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            caught = [*node.args]
        for kind in caught:
            if kind is None or ast.unparse(kind) in {"Exception", "BaseException"}:
                yield f"{path}:{node.lineno}: catches everything; name the errors"


def pickles(tree: ast.AST, path: Path) -> Iterator[str]:
    if path.parts[0] != "fer_ros":
        return
    for name in imported(tree, path):
        if name.split(".")[0] in PICKLES and name != PICKLE_ERROR:
            yield f"{path}: imports {name}; a pickle can run code"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            flags = {key.arg: ast.unparse(key.value) for key in node.keywords}
            if function == "torch.load" and flags.get("weights_only") != "True":
                yield f"{path}:{node.lineno}: torch.load without weights_only=True"
            if flags.get("allow_pickle") == "True":
                yield f"{path}:{node.lineno}: {function} allows pickles"


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(SOURCES[path])


RULES = (ros_outside_ros, long_functions, catch_alls, pickles)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_keep_the_rule(rule):
    assert Path("fer_ros/alignment.py") in SOURCES
    violations = [violation for path in SOURCES for violation in rule(parsed(path), path)]
    assert violations == []


# rule, file, source, whether the source violates the rule
CASES = (
    (ros_outside_ros, "fer_ros/ros/node.py", "import rclpy", False),
    (ros_outside_ros, "fer_ros/pipeline.py", "import rclpy.node", True),
    (
        ros_outside_ros,
        "fer_ros/visualization.py",
        "from sensor_msgs.msg import Image",
        True,
    ),
    (
        ros_outside_ros,
        "training/datasets/splits.py",
        "from cv_bridge import CvBridge",
        True,
    ),
    (long_functions, "test/test_x.py", "def f():\n" + "    x = 1\n" * 49, False),
    (long_functions, "test/test_x.py", "def f():\n" + "    x = 1\n" * 50, True),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept OSError:\n    pass", False),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept:\n    pass", True),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept Exception:\n    raise", True),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept (OSError, BaseException):\n    pass", True),
    (catch_alls, "fer_ros/x.py", "with contextlib.suppress(Exception):\n    f()", True),
    (pickles, "fer_ros/models/checkpoint.py", "torch.load(f, weights_only=True)", False),
    (pickles, "fer_ros/models/checkpoint.py", "torch.load(f)", True),
    (pickles, "fer_ros/models/checkpoint.py", "torch.load(f, weights_only=False)", True),
    (pickles, "fer_ros/inference/model_store.py", "import pickle", True),
    (pickles, "fer_ros/inference/model_store.py", "from pickle import loads", True),
    (pickles, "fer_ros/inference/model_store.py", "from pickle import UnpicklingError", False),
    (pickles, "fer_ros/inference/model_store.py", "np.load(f, allow_pickle=True)", True),
)


@pytest.mark.parametrize(("rule", "path", "source", "is_violation"), CASES)
def test_rules_separate_good_from_bad(rule, path, source, is_violation):
    assert bool(list(rule(ast.parse(source), Path(path)))) == is_violation


def test_files_are_short():
    long = {str(path): source.count("\n") for path, source in SOURCES.items()}
    assert {path: lines for path, lines in long.items() if lines > MAX_FILE_LINES} == {}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the sources under ``root`` against the layers in the project's pyproject.toml."""
    command = [sys.executable, "-c", LINT_IMPORTS, str(ROOT / "pyproject.toml")]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@needs_import_linter
def test_modules_import_from_lower_layers_only():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@needs_import_linter
@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("fer_ros/types.py", "from fer_ros.alignment import align_face"),
        ("fer_ros/tracker.py", "from . import smoother"),
        ("fer_ros/tracker.py", "def f():\n    import fer_ros.pipeline"),
        ("fer_ros/tracker.py", "from fer_ros import EmotionPipeline"),
        ("fer_ros/models/backbones/vit.py", "from ...classifier import Classifier"),
        ("fer_ros/inference/model_store.py", "from fer_ros.models import wrapper"),
        ("fer_ros/cli/analyze.py", "import training.config"),
        ("fer_ros/module_in_no_layer.py", ""),
    ],
)
def test_the_layers_refuse_an_import_from_above(path, source, tmp_path):
    for package in ("fer_ros", "training"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc"))
    with (tmp_path / path).open("a") as file:
        file.write(f"\n{source}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout
    assert re.search(r"[12] broken", result.stdout), result.stdout


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", False),
        ("out/demo/emotions.jsonl", False),
        ("https://example.org/home/page", False),
        ("~/robot/src, /dev/shm/fastdds_1, /humans/faces", False),
        ("/" + "home/ann/robot", True),
        ("open('/" + "root/data.npz')", True),
    ],
)
def test_own_machine_pattern(text, found):
    assert bool(OWN_MACHINE.search(text)) == found


def test_no_path_of_a_developers_machine():
    kinds = {".py", ".md", ".rst", ".yaml", ".yml", ".xml", ".sh", ".toml", ".cfg", ".txt", ".json"}
    texts = [name for name in FILES if name.suffix in kinds or name.name in {"Makefile", "run"}]
    assert Path("Makefile") in texts
    offenders = {
        str(name): match.group()
        for name in texts
        if (match := OWN_MACHINE.search((ROOT / name).read_text()))
    }
    assert offenders == {}


def test_requirements_are_pinned():
    lists = [path for path in (ROOT / "requirements").glob("*.txt") if path.name not in NO_PIN]
    lines = [line.strip() for path in lists for line in path.read_text().splitlines()]
    expected = [line for line in lines if line and not line.startswith(("#", "-"))]
    assert expected
    assert [line for line in expected if not PIN.fullmatch(line)] == []


# Prefixes and words that have a standard term (docs/glossary.md): MAX_, MIN_, DEFAULT_; module,
# layer, pipeline, interface.
OLD_WORDS = re.compile(
    r"\b_?(?:MOST|LEAST|USUAL|LONGEST)_[A-Z]"
    r"|\b(?:[Rr]ooms?|[Hh]ouse|[Rr]oads?|[Dd]oors?|[Mm]ended|[Vv]erdicts?|album|watcher)\b"
    r"|\b(?:[Nn]obody|[Ss]omebody|[Aa]nybody|[Hh]eard|[Tt]old|[Cc]omplaints?|torn|packs)\b"
    r"|\b(?:[Pp]ictures?|[Pp]eers?|[Bb]elongings)\b"
)
PROSE = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".xml", ".txt"}


@pytest.mark.parametrize(
    ("text", "found"),
    [("", False), ("MAX_BYTES, most_common", False), ("_MOST_BYTES", True), ("a picture", True)],
)
def test_old_terms_are_recognized(text, found):
    assert bool(OLD_WORDS.search(text)) == found


def test_sources_use_the_standard_terms():
    here = Path(__file__).relative_to(ROOT)
    texts = [name for name in FILES if (name.suffix in PROSE or name.name == "Makefile")]
    offenders = {
        f"{name}:{number}": match.group()
        for name in texts
        if name != here
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if (match := OLD_WORDS.search(line))
    }
    assert offenders == {}
