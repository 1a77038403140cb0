"""List the files below a folder, also behind links to other folders."""

from pathlib import Path
from typing import NamedTuple

from fer_ros.io.errors import single_line
from fer_ros.io.path_kind import FILE, FOLDER, path_kind


class FolderTree(NamedTuple):
    """Files in and below a folder, and "PATH: REASON" of what cannot be read."""

    files: list[Path]
    unreadable: list[str]


def list_tree(top: Path) -> FolderTree:
    """List a folder and its subfolders, by name, without hidden files and folders.

    Each folder is listed once: by its own path rather than by a link, if both are below ``top``.
    Raises OSError when ``top`` cannot be listed.
    """
    tree = FolderTree([], [])
    pending, linked = [top], list[Path]()
    visited: set[tuple[int, int]] = set()
    while pending or linked:
        folder = pending.pop() if pending else linked.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            if folder == top:
                raise
            tree.unreadable.append(f"{folder.relative_to(top)}: {single_line(error)}")
            continue
        for path in reversed(paths):
            kind = path_kind(path)
            if kind == FOLDER:
                (linked if path.is_symlink() else pending).append(path)
            elif kind == FILE:
                tree.files.append(path)
            else:
                tree.unreadable.append(f"{path.relative_to(top)}: {kind}")
    tree.files.sort()
    tree.unreadable.sort()
    return tree
