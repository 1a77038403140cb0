"""The house rules that a program can see: rooms, floors, sizes, exceptions, pickles, pins."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree import ROOT, project_files

# From the ground up: a room imports only rooms of lower floors. A room is a module or package of
# fer_ros; "" is fer_ros/__init__.py, the public page.
FLOORS = (
    ("labels", "errors", "files"),
    ("types", "decode"),
    ("config",),
    (
        "weights",
        "align",
        "draw",
        "records",
        "media",
        "onnx_session",
        "portrait",
        "evaluation.metrics",
    ),
    ("model", "fetch"),
    ("detect", "track", "quality", "smooth", "follow", "pose", "backends", "sample"),
    ("classify",),
    ("pipeline",),
    ("crops", "cameras"),
    ("",),
    ("evaluation", "ros"),
    ("cli",),
    ("start",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
ROS_ONLY = re.compile(r"rclpy|cv_bridge|launch|launch_ros|\w+_(msgs|srvs|interfaces)")
PICKLES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
PICKLE_ERROR = "pickle.UnpicklingError"  # what torch.load(weights_only=True) refuses with
OWN_MACHINE = re.compile(r"(?<![\w.>])/(?:home|root|work|Users)/\w")
PIN = re.compile(r"[A-Za-z0-9_.-]+==[\w.]+")

FILES = project_files()
SOURCES = {
    name: (ROOT / name).read_text()
    for name in FILES
    if name.suffix == ".py" and name.parts[0] in {"fer_ros", "training", "test", "launch"}
}


def imported(tree: ast.AST, path: Path) -> Iterator[str]:
    """Absolute dotted names of all imports; ``from a import b`` gives ``a.b``."""
    package = list(path.parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def room_of(module: str) -> str:
    """The room of a dotted name below ``fer_ros``; names of no room stand on the public page."""
    inside = module.split(".")[1:]
    for length in (2, 1):
        room = ".".join(inside[:length])
        if room in FLOOR_OF:
            return room
    return ""


def upward_imports(tree: ast.AST, path: Path) -> Iterator[str]:
    if path.parts[0] != "fer_ros":
        return
    module = ".".join(path.with_suffix("").parts)
    here = room_of(module)
    if here == "" and path.name != "__init__.py":
        yield f"{path}: stands on no floor; give it one in FLOORS and in CONTRIBUTING.md"
        return
    for name in imported(tree, path):
        if name.split(".")[0] != "fer_ros":
            continue
        there = room_of(name)
        if there != here and FLOOR_OF[there] >= FLOOR_OF[here]:
            yield f"{path}: imports {name}, which is not below it"


def ros_outside_its_room(tree: ast.AST, path: Path) -> Iterator[str]:
    if path.parts[0] not in {"fer_ros", "training"} or path.parts[:2] == ("fer_ros", "ros"):
        return
    for name in imported(tree, path):
        if ROS_ONLY.fullmatch(name.split(".")[0]):
            yield f"{path}: imports {name}; only fer_ros/ros/ speaks ROS"


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


RULES = (upward_imports, ros_outside_its_room, long_functions, catch_alls, pickles)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_keep_the_rule(rule):
    assert Path("fer_ros/align.py") in SOURCES
    complaints = [
        complaint for path, source in SOURCES.items() for complaint in rule(ast.parse(source), path)
    ]
    assert complaints == []


# rule, file, source, whether the rule must complain
CASES = (
    (upward_imports, "fer_ros/types.py", "", False),
    (upward_imports, "fer_ros/types.py", "from fer_ros.labels import EMOTIONS", False),
    (upward_imports, "fer_ros/types.py", "from fer_ros.align import align", True),
    (upward_imports, "fer_ros/track.py", "from fer_ros import detect", True),
    (upward_imports, "fer_ros/track.py", "from . import smooth", True),
    (upward_imports, "fer_ros/track.py", "def f():\n    import fer_ros.pipeline", True),
    (upward_imports, "fer_ros/track.py", "from fer_ros import EmotionPipeline", True),
    (upward_imports, "fer_ros/cli/analyze.py", "from fer_ros import EmotionPipeline", False),
    (upward_imports, "fer_ros/model/vit.py", "from .window import Window", False),
    (upward_imports, "fer_ros/model/vit.py", "from ..classify import Classifier", True),
    (upward_imports, "fer_ros/evaluation/report.py", "from .metrics import accuracy", False),
    (upward_imports, "fer_ros/evaluation/metrics.py", "from .report import write", True),
    (upward_imports, "fer_ros/attic.py", "", True),
    (ros_outside_its_room, "fer_ros/ros/node.py", "import rclpy", False),
    (ros_outside_its_room, "fer_ros/pipeline.py", "import rclpy.node", True),
    (ros_outside_its_room, "fer_ros/draw.py", "from sensor_msgs.msg import Image", True),
    (ros_outside_its_room, "training/data.py", "from cv_bridge import CvBridge", True),
    (long_functions, "test/test_x.py", "def f():\n" + "    x = 1\n" * 49, False),
    (long_functions, "test/test_x.py", "def f():\n" + "    x = 1\n" * 50, True),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept OSError:\n    pass", False),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept:\n    pass", True),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept Exception:\n    raise", True),
    (catch_alls, "fer_ros/x.py", "try:\n    f()\nexcept (OSError, BaseException):\n    pass", True),
    (catch_alls, "fer_ros/x.py", "with contextlib.suppress(Exception):\n    f()", True),
    (pickles, "fer_ros/model/checkpoint.py", "torch.load(f, weights_only=True)", False),
    (pickles, "fer_ros/model/checkpoint.py", "torch.load(f)", True),
    (pickles, "fer_ros/model/checkpoint.py", "torch.load(f, weights_only=False)", True),
    (pickles, "fer_ros/weights.py", "import pickle", True),
    (pickles, "fer_ros/weights.py", "from pickle import loads", True),
    (pickles, "fer_ros/weights.py", "from pickle import UnpicklingError", False),
    (pickles, "fer_ros/weights.py", "np.load(f, allow_pickle=True)", True),
)


@pytest.mark.parametrize(("rule", "path", "source", "complains"), CASES)
def test_rules_can_tell_good_from_bad(rule, path, source, complains):
    assert bool(list(rule(ast.parse(source), Path(path)))) == complains


def test_files_are_short():
    long = {str(path): source.count("\n") for path, source in SOURCES.items()}
    assert {path: lines for path, lines in long.items() if lines > MAX_FILE_LINES} == {}


def test_contributing_shows_the_same_floors():
    named = [", ".join(room or "the public page" for room in rooms) for rooms in FLOORS]
    assert "\n".join(named) in (ROOT / "CONTRIBUTING.md").read_text()


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
    found = {
        str(name): match.group()
        for name in texts
        if (match := OWN_MACHINE.search((ROOT / name).read_text()))
    }
    assert found == {}


def test_requirements_are_pinned():
    lists = sorted((ROOT / "requirements").glob("*.txt"))
    lines = [line.strip() for path in lists for line in path.read_text().splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted
    assert [line for line in wanted if not PIN.fullmatch(line)] == []
