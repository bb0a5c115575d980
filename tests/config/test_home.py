"""A user without a home and without an entry in passwd gets a folder for the caches of libraries."""

import getpass
import os
import pwd
from pathlib import Path

import pytest

from codiemb.config.home import find_home

_NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user of a container that was started with --user; what TMPDIR is for it."""

    def no_entry(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in _NAMES:
        monkeypatch.setenv(name, "")  # so that all are put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("home", [None, "/"])
def test_libraries_find_a_home_and_a_name(nobody, monkeypatch, capsys, home):
    if home is not None:
        monkeypatch.setenv("HOME", home)
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    find_home()
    assert Path.home() == nobody / f"codiemb-home-{os.getuid()}"
    assert Path.home().stat().st_mode & 0o077 == 0
    assert getpass.getuser() == str(os.getuid())
    assert capsys.readouterr().err.count("this user has no home") == 1
    find_home()  # a rank that inherits it has one
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["open to all", "a link", "a file"])
def test_a_folder_that_another_user_may_have_laid_out_is_not_taken(nobody, tmp_path, kind):
    folder = nobody / f"codiemb-home-{os.getuid()}"
    if kind == "a link":
        (nobody / "theirs").mkdir(mode=0o700)
        folder.symlink_to(nobody / "theirs")
    elif kind == "a file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    find_home()
    assert Path.home() != folder
    assert Path.home().parent == nobody
    assert Path.home().stat().st_mode & 0o077 == 0


def test_a_home_and_a_name_stay_what_they_are(nobody, monkeypatch):
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("LOGNAME", "me")
    find_home()
    assert os.environ["HOME"] == "/nonexistent"
    assert "USER" not in os.environ
