"""`palate import`, `export answers` and `compare`."""

import json

import pytest
import torch
from palate.adapters.comparisons import PreferenceStore
from palate.adapters.files import load_taste
from palate.ui import cli
from PIL import Image
from PIL.PngImagePlugin import PngInfo


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    for number in range(3):
        Image.new("RGB", (8, 8), (90 * number, 1, 2)).save(tmp_path / f"{number}.png")
    return tmp_path


def run(capsys, *words):
    code = cli.main([str(word) for word in words])
    return code, capsys.readouterr()


def test_answers_go_in_one_by_one_and_out_as_a_folder(home, capsys):
    _, said = run(capsys, "compare", home / "0.png", home / "1.png", "right", "--person", "Mara", "--json")
    assert json.loads(said.out)["answers"] == 1
    run(capsys, "compare", home / "1.png", home / "2.png", "tie", "--person", "Mara", "--prompt", "a star")
    _, said = run(capsys, "export", "answers", "-o", home / "out", "--json")
    assert json.loads(said.out)["answers"] == 2
    code, said = run(capsys, "import", home / "out", "--person", "Ben", "--json")
    assert (code, json.loads(said.out)["added"]) == (0, 2)
    with PreferenceStore.existing(home / "home" / "store") as store:
        outcomes = [[one.outcome for one in store.comparisons(name)] for name in ("Mara", "Ben")]
    assert outcomes == [["right", "tie"], ["right", "tie"]]


def test_an_aesthetic_gradient_becomes_a_taste_file(home, capsys):
    torch.save(torch.ones(1, 96), home / "style.pt")
    code, said = run(capsys, "import", home / "style.pt", "--encoder", "playground", "-o", home / "style.safetensors")
    assert code == 0, said.err
    assert load_taste(home / "style.safetensors").person == "style"


def test_a_gradient_never_takes_the_place_of_a_taste_of_its_name(home, capsys):
    torch.save(torch.ones(1, 96), home / "mara.pt")
    mine = home / "home" / "tastes" / "mara.safetensors"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    for _ in range(2):  # the same one twice is one
        code, said = run(capsys, "import", home / "mara.pt", "--encoder", "playground", "--json")
        assert (code, json.loads(said.out)["file"]) == (0, str(mine.with_name("mara-2.safetensors")))
    assert mine.read_bytes() == b"mine"
    run(capsys, "import", home / "mara.pt", "--encoder", "playground", "-o", home / "other")
    assert load_taste(home / "other.safetensors").person == "mara"


def test_compare_keeps_what_both_pictures_say_of_their_model(home, capsys):
    for number in range(2):
        said = PngInfo()
        said.add_text("parameters", f"a star\nSteps: 20, Seed: {number}, Model: dreams")
        Image.new("RGB", (8, 8), (90 * number, 1, 2)).save(home / f"{number}.png", pnginfo=said)
    assert run(capsys, "compare", home / "0.png", home / "1.png", "left")[0] == 0
    with PreferenceStore.existing(home / "home" / "store") as store:
        (one,) = store.comparisons("me")
    assert (one.prompt, one.left_seed, one.right_seed, one.model, one.source) == ("a star", 0, 1, "dreams", "command")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "nowhere"], "no such file or folder"),
        (["import", "{home}/0.png"], "found a .png"),
        (["import", "{home}/bad.jsonl"], "none of 1 rows could be used. The first: bad.jsonl, line 1"),
        (["export", "answers", "-o", "x", "--person", "Nobody"], "found no store there"),
        (["compare", "{home}/0.png", "{home}/0.png", "left"], "both sides are image"),
        (["compare", "{home}/0.png", "{home}/gone.png", "left"], "there is no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(home, capsys, words, message):
    (home / "bad.jsonl").write_text("{}")
    code, said = run(capsys, *(word.format(home=home) for word in words))
    assert (code, message in said.err) == (2, True), said.err


def test_an_import_says_whose_answers_they_are(home, capsys):
    rows = home / "rows.jsonl"
    rows.write_text(json.dumps({"chosen": str(home / "0.png"), "rejected": str(home / "1.png")}))
    _, said = run(capsys, "import", rows)
    assert said.out == "1 answer of 'imported' added, 0 had been there, 0 could not be used.\n"
    assert "palate show imported" in said.err
    rows.write_text(json.dumps({"chosen": "none.png", "rejected": str(home / "1.png")}))
    _, said = run(capsys, "import", rows)
    assert said.err.endswith("Check the path.\n") and ".." not in said.err
