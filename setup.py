"""Installs the library, its models, settings and launch files; works for pip and for colcon."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = "fer_ros"
ROOT = Path(__file__).parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()


def shared(folder: str, pattern: str = "*") -> list[tuple[str, list[str]]]:
    """The files under ``folder`` as data files, in the same tree below ``share/fer_ros``."""
    files = sorted(path for path in (ROOT / folder).rglob(pattern) if path.is_file())
    names = [path.relative_to(ROOT) for path in files]
    return [(f"share/{NAME}/{name.parent.as_posix()}", [name.as_posix()]) for name in names]


setup(
    name=NAME,
    version=MANIFEST.findtext("version"),
    description="Which emotion does each face in front of the robot show?",
    license=MANIFEST.findtext("license"),
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch", "*.launch.py"),
        *shared("config"),
        *shared("models"),
    ],
    # Python packages come from rosdep and requirements/: a pin here would stop apt's versions.
    install_requires=[],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"emotion_node = {NAME}.start:emotion_node",
            f"camera = {NAME}.start:camera",
            f"fer = {NAME}.start:fer",
        ]
    },
)
