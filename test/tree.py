"""The project's own files, for the tests that read them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def project_files() -> list[Path]:
    """Every file that is in git or could go in, relative to ROOT."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = [Path(name) for name in listed.split("\0") if name]
    return sorted(name for name in names if (ROOT / name).is_file())
