"""Share the packages of one virtual environment with another, except those of ROS 2.

    .venv-jazzy/bin/python .ci/share_packages.py .venv

The running environment gets a folder of symbolic links to every package of ``.venv`` that is
neither a ROS 2 wheel nor an editable install, and reads it after its own site-packages. So a
second ROS 2 distribution is tested without a second copy of PyTorch.
"""

import shutil
import sys
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
PYTHON = SITE.parent.name
# The second environment builds its message packages with tools of its own.
BUILD_TOOLS = {"catkin-pkg", "cmake", "empy", "ninja"}


def is_shared(distribution: Distribution) -> bool:
    """Whether pip installed the distribution and it has nothing to do with ROS 2."""
    name = distribution.metadata["Name"].lower().replace("_", "-")
    editable = distribution.read_text("direct_url.json") is not None
    by_pip = distribution.read_text("RECORD") is not None
    return by_pip and not editable and not name.startswith("ros-") and name not in BUILD_TOOLS


def top_level_names(distribution: Distribution) -> set[str]:
    """Return the files and folders of the distribution that lie directly in site-packages."""
    tops = {file.parts[0] for file in distribution.files or []}
    return tops - {"..", "__pycache__"}


def main(source: Path) -> None:
    """Link the packages of the environment ``source`` into the running environment."""
    packages = source.resolve() / "lib" / PYTHON / "site-packages"
    if not packages.is_dir():
        sys.exit(f"{packages}: no such folder; both environments need the same Python")
    links = SITE.parent / "shared-packages"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir()
    for distribution in distributions(path=[str(packages)]):
        if not is_shared(distribution):
            continue
        for name in top_level_names(distribution):
            if not (links / name).is_symlink():
                (links / name).symlink_to(packages / name)
    (SITE / "shared-packages.pth").write_text(f"{links}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
