"""Say what is at a path."""

import stat
from pathlib import Path

from fer_ros.io.errors import single_line

FILE, FOLDER, NOTHING = "a file", "a folder", ""
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def path_kind(path: Path) -> str:
    """Return FILE, FOLDER or NOTHING, else the kind or the reason why it cannot be read."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "no file")
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        if path.is_symlink():
            return f"a link to {path.readlink()}, which cannot be followed: {single_line(error)}"
        return NOTHING if isinstance(error, FileNotFoundError) else single_line(error)
