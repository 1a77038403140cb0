"""The files of the project, for the tests that read them."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


# What git ignores, for trees that are no git checkout.
PRODUCTS = re.compile(
    r"\.git|\.venv.*|build|install|log|out|runs|.*_cache|__pycache__|.*\.egg-info"
)


def project_files() -> list[Path]:
    """Return the project's files, tracked by git or not yet, relative to ROOT."""
    if not (ROOT / ".git").exists():
        return sorted(_files_below(ROOT))
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = [Path(name) for name in output.split("\0") if name]
    return sorted(name for name in names if (ROOT / name).is_file())


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if PRODUCTS.fullmatch(path.name):
            continue
        if path.is_dir():
            yield from _files_below(path)
        else:
            yield path.relative_to(ROOT)


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
