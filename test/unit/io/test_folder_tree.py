"""Files below a folder."""

import pytest

from fer_ros.io.folder_tree import list_tree


def names(top):
    return [str(file.relative_to(top)) for file in list_tree(top).files]


def test_an_empty_folder(tmp_path):
    assert list_tree(tmp_path) == ([], [])


def test_linked_folders_are_followed_once(tmp_path):
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    for folder in (top / "sub", elsewhere, top / ".hidden"):
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    (top / "a").symlink_to("sub")  # "sub" itself is listed
    (top / "b").symlink_to(elsewhere)
    (top / "c").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(top)
    (top / "x.png").symlink_to(elsewhere / "x.png")
    assert names(top) == ["b/x.png", "sub/x.png", "x.png"]
    assert list_tree(top).unreadable == []


def test_unreadable_parts_are_listed(tmp_path, monkeypatch):
    """Also for root, who may read every folder."""
    locked = tmp_path / "locked"
    locked.mkdir()
    (tmp_path / "x.png").touch()
    (tmp_path / "gone").symlink_to("missing")
    iterate = type(locked).iterdir

    def iterdir(folder):
        if folder == locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return iterate(folder)

    monkeypatch.setattr(type(locked), "iterdir", iterdir)
    files, unreadable = list_tree(tmp_path)
    assert files == [tmp_path / "x.png"]
    assert unreadable == [
        "gone: a link to missing, which cannot be followed: No such file or directory",
        "locked: Permission denied",
    ]
    with pytest.raises(PermissionError):
        list_tree(locked)
