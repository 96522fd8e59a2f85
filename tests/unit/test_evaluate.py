"""`palate evaluate`: which of two folders wins, by a taste and by judges."""

import json
from itertools import pairwise

import panel_fakes as fakes
import pytest
import torch
from palate.adapters.comparisons import PreferenceStore
from palate.adapters.errors import FileFormatError, ShapeError
from palate.adapters.exchange import aesthetic_head, contest
from palate.ui import cli
from PIL import Image


def test_wins_by_hand_and_ties_count_half():
    found = contest([3.0, 1.0, 2.0], [1.0, 1.0, 5.0])
    assert (found.wins, found.pairs) == (0.5, 3)
    assert found.low < 0.5 < found.high
    with pytest.raises(ShapeError, match="Cannot compare 1 scores with 2"):
        contest([1.0], [1.0, 2.0])


def test_the_aesthetic_head_is_its_layers_in_one(tmp_path):
    widths, state = (8, 6, 4, 1), {}
    layers = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in pairwise(widths)))
    for number, layer in enumerate(layers):
        state |= {f"layers.{2 * number}.weight": layer.weight.data, f"layers.{2 * number}.bias": layer.bias.data}
    torch.save(state, tmp_path / "head.pth")
    weights, constant = aesthetic_head(tmp_path / "head.pth")
    images = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(images @ weights + constant, layers(images).detach()[:, 0])


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_what_is_no_head_is_named_and_not_run(tmp_path, content):
    (tmp_path / "head.pth").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"Cannot read 'head.pth': .*expected LAION's"):
        aesthetic_head(tmp_path / "head.pth")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    with PreferenceStore(tmp_path / "home" / "store") as store:
        fakes.answer_some(store, "Mara", 20)
    for folder, bright in (("a", 40), ("b", 0)):
        (tmp_path / folder).mkdir()
        for number in range(4):
            Image.new("RGB", (16, 16), (50 * number + bright, 40, 90)).save(tmp_path / folder / f"{number}.png")
            (tmp_path / folder / f"{number}.txt").write_text("a red star")
    (tmp_path / "silent").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "silent" / "0.png")
    return tmp_path


def test_two_folders_by_a_person_and_by_a_clip(home, capsys):
    (home / "a" / "broken.png").write_bytes(b"no picture")
    words = ["evaluate", str(home / "a"), str(home / "b"), "--person", "Mara", "--judge", "clip=playground"]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["means"]) == {"taste", "clip"}
    assert [one["pairs"] for one in told["wins"]] == [4, 4]
    assert all(0 <= one["low"] <= one["wins"] <= one["high"] <= 1 for one in told["wins"])
    assert -100 <= told["means"]["clip"][str(home / "a")]["mean"] <= 100
    assert cli.main(words) == 0
    assert "of 4 against" in capsys.readouterr().out


def test_a_folder_against_itself_wins_half(home, capsys):
    (home / "c").mkdir()
    for file in (home / "a").iterdir():
        (home / "c" / file.name).write_bytes(file.read_bytes())
    assert cli.main(["evaluate", str(home / "a"), str(home / "c"), "--person", "Mara", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wins"][0]["wins"] == 0.5


def test_pictures_of_other_names_are_not_compared_and_that_is_said(home, capsys):
    for number, file in enumerate(sorted((home / "b").iterdir())):
        file.rename(file.with_stem(f"other-{number}"))
    assert cli.main(["evaluate", str(home / "a"), str(home / "b"), "--person", "Mara"]) == 0
    shown = capsys.readouterr()
    assert "wins" not in shown.out and "No two pictures have one name" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{home}/a"], "found no judge"),
        (["{home}/nothing", "--person", "Mara"], "found no picture"),
        (["{home}/a", "--judge", "beauty=x"], "Cannot judge by 'beauty=x'"),
        (["{home}/silent", "--judge", "clip=playground"], "0 says no prompt"),
    ],
)
def test_what_cannot_be_done_is_one_line(home, capsys, words, said):
    assert cli.main(["evaluate", *(word.format(home=home) for word in words)]) == 2
    assert said in capsys.readouterr().err
