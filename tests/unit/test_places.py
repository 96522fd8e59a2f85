"""Names never become paths, and the home is where it was asked to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import ComparisonError, StoreError
from palate.adapters.places import (
    named_on_hub,
    not_there,
    palate_home,
    ppd_folder,
    safe_name,
    tastes_folder,
    typed_path,
    users_folder,
)


@given(st.text(min_size=1, max_size=300).filter(str.strip))
@settings(deadline=None, max_examples=200)
def test_any_name_stays_one_file_inside_its_folder(text: str) -> None:
    name = safe_name(text)
    assert Path("/folder", name).parent == Path("/folder")
    assert Path("/folder", name).resolve().parent == Path("/folder").resolve()
    assert name not in {".", ".."} and not name.startswith(".") and len(f"{name}.safetensors".encode()) <= 255
    assert not set(name) & set('/\\:*?"<>|\0')


@given(st.text(min_size=1, max_size=8).filter(str.strip), st.text(min_size=1, max_size=8).filter(str.strip))
@settings(deadline=None, max_examples=100)
def test_two_names_never_share_a_file(first: str, second: str) -> None:
    assert (safe_name(first).casefold() == safe_name(second).casefold()) == (first == second)


@pytest.mark.parametrize("name", ["mara", "mara-2", "a_b", "x" * 60])
def test_plain_names_stay_as_they_are(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["Mara", "../../etc/passwd", "con", "nul", "a.b", "..", "a\x00b", 'a"b', "x" * 4000, "-", "mara-0123456789ab"],
)
def test_other_names_get_a_hash(name: str) -> None:
    assert safe_name(name) != name
    assert safe_name(name) == safe_name(name)


def test_a_readable_part_is_kept() -> None:
    assert safe_name("Mara Lindström").startswith("Mara-Lindström-")


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_a_blank_name_is_refused(name: str) -> None:
    with pytest.raises(ComparisonError, match="the name is blank"):
        safe_name(name)


def test_home_is_the_variable_and_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "a" / "b"))
    assert palate_home() == tmp_path / "a" / "b"
    assert palate_home().is_dir()


def test_home_falls_back_to_user_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALATE_HOME", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert palate_home() == tmp_path / "palate"


def test_home_that_is_a_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "file" / "sub"))
    with pytest.raises(StoreError, match="Set PALATE_HOME"):
        palate_home()


@pytest.mark.parametrize("home", ["a\ud800", "x" * 4000])
def test_a_home_that_can_not_be_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str) -> None:
    monkeypatch.setattr("os.environ", {"PALATE_HOME": str(tmp_path / home)})
    with pytest.raises(StoreError, match="Set PALATE_HOME"):
        palate_home()


def test_a_home_that_nobody_has_is_a_plain_name() -> None:
    assert typed_path("~nobody-of-this-name/a").parts == ("~nobody-of-this-name", "a")
    assert typed_path("~").is_absolute()


def test_a_file_in_the_way_of_the_tastes_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.environ", {"PALATE_HOME": str(tmp_path)})
    assert tastes_folder() == tmp_path / "tastes"
    assert users_folder() == tmp_path / "users" and ppd_folder() == tmp_path / "ppd"
    (tmp_path / "tastes").rmdir()
    (tmp_path / "tastes").write_text("")
    with pytest.raises(StoreError, match=r"tastes as Palate's folder: File exists"):
        tastes_folder()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("owner/model", True), ("here/model", False), ("./owner/model", False), ("~/model", False), ("a/b/c", False)],
)
def test_the_hub_is_asked_for_names_that_no_folder_here_begins(
    typed: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert named_on_hub(typed) is expected
    assert not any(named_on_hub(text) for text in ("model", "/model", "owner/", "../model", ".hidden/model"))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("model", "no such folder or file"),
        ("/no/such/model", "no such folder or file"),
        ("here/model", "no such folder or file in 'here', which is a folder here, so the hub was not asked"),
        ("here/there/model", "no such folder or file in 'here'"),
    ],
)
def test_what_is_not_there_names_the_folder_that_is(
    typed: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not_there(typed) == said
