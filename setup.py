"""What colcon and ament need beside pyproject.toml; both pip and colcon run it.

setuptools older than 61, as on Ubuntu 22.04, does not read the ``[project]`` table: name, packages
and entry points are therefore defined here.
"""

from pathlib import Path
from xml.etree import ElementTree

import setuptools

NAME = "fer_ros"
ROOT = Path(__file__).parent
READS_PROJECT_TABLE = int(setuptools.__version__.split(".")[0]) >= 61


def share(folder: str, pattern: str = "*") -> list[tuple[str, list[str]]]:
    """Data files: the files under ``folder``, in the same tree below ``share/fer_ros``."""
    files = sorted(path for path in (ROOT / folder).rglob(pattern) if path.is_file())
    names = [path.relative_to(ROOT) for path in files]
    return [(f"share/{NAME}/{name.parent.as_posix()}", [name.as_posix()]) for name in names]


setuptools.setup(
    name=NAME,
    version=ElementTree.parse(ROOT / "package.xml").getroot().findtext("version"),
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["py.typed", "templates/*", "centerface_ranges.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *share("launch", "*.launch.py"),
        *share("config"),
        *share("models"),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"emotion_node = {NAME}.entry_points:emotion_node",
            f"media_publisher = {NAME}.entry_points:media_publisher",
            f"fer = {NAME}.entry_points:fer",
        ]
    },
    # colcon runs the tests with pytest where the extra "test" names it.
    **({} if READS_PROJECT_TABLE else {"extras_require": {"test": ["pytest"]}}),
)
