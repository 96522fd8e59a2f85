"""`palate fit`, `rank`, `blend` and `show FILE`: tastes as files, from the command line."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import panel_fakes as fakes
import pytest
import torch
from palate.adapters import steering
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.encoders import load_encoder
from palate.adapters.files import load_taste, save_taste
from palate.adapters.taste import Taste
from palate.ui import cli
from PIL import Image


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    with PreferenceStore(tmp_path / "home" / "store") as store:
        fakes.answer_some(store, "Mara", 30)
        fakes.answer_some(store, "Ben", 12, seed=3)
    return tmp_path / "home" / "store"


def test_fit_saves_the_file_and_a_picture_that_is_the_same_taste(store, tmp_path, capsys):
    file, picture = tmp_path / "mara.safetensors", tmp_path / "mara.png"
    words = [
        "fit",
        "Mara",
        "-o",
        str(file),
        "--picture",
        str(picture),
        "--author",
        "M.",
        "--licence",
        "CC0-1.0",
        "--json",
    ]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["person"], told["licence"]) == (str(file), "Mara", "CC0-1.0")
    assert told["accuracy"]["low"] <= told["accuracy"]["share"] <= told["accuracy"]["high"]
    taste, carried = load_taste(file), load_taste(picture)
    assert torch.equal(taste.weights, carried.weights)
    assert (carried.author, carried.accuracy) == ("M.", taste.accuracy)
    assert Image.open(picture).size == (960, 480)


def test_a_private_file_names_nobody(store, tmp_path):
    assert cli.main(["fit", "Mara", "-o", str(tmp_path / "x"), "--private"]) == 0
    assert load_taste(tmp_path / "x.safetensors").person == ""


def test_a_folder_is_ranked_best_first_and_what_is_no_picture_is_named(store, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (16, 16), (50 * number, 40, 90)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("left alone")
    assert cli.main(["rank", str(folder), "--person", "Mara", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    utilities = [one["utility"] for one in told["ranked"]]
    assert utilities == sorted(utilities, reverse=True) and len(utilities) == 5
    assert [Path(file).name for file in told["unreadable"]] == ["broken.jpg"]


def test_a_taste_minus_itself_prefers_nothing(store, tmp_path):
    file, out = str(tmp_path / "mara.safetensors"), tmp_path / "none.safetensors"
    cli.main(["fit", "Mara", "-o", file])
    assert cli.main(["blend", file, f"{file}:-1", "-o", str(out)]) == 0
    assert not load_taste(out).weights.any()
    assert cli.main(["blend", f"{file}:2", "-o", str(out)]) == 0
    assert torch.allclose(load_taste(out).weights, 2 * load_taste(file).weights)


@pytest.mark.parametrize("shown", ["text", "html", "json"])
def test_a_file_is_shown(store, tmp_path, capsys, shown):
    file, page = tmp_path / "mara.safetensors", tmp_path / "page.html"
    cli.main(["fit", "Mara", "-o", str(file)])
    capsys.readouterr()
    assert cli.main(["show", str(file), *{"html": ["--html", str(page)], "json": ["--json"]}.get(shown, [])]) == 0
    out = page.read_text(encoding="utf-8") if shown == "html" else capsys.readouterr().out
    assert "Mara" in out and "playground" in out
    if shown == "html":
        assert "http" not in out.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rank", "nowhere"], "found no such folder"),
        (["blend", "a.safetensors:much", "-o", "x"], "its weight is 'much'"),
        (["show", "nothing.safetensors"], "there is no such file"),
        (["fit", "Nobody"], "has not compared anything yet"),
    ],
)
def test_what_cannot_be_done_is_one_line(store, capsys, words, said):
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "user"])
@pytest.mark.parametrize("output", [".", "..", "{folder}", "/"])
def test_a_folder_is_no_file_to_save_as(store, tmp_path, capsys, output, command):
    assert cli.main([command, "Mara", "-o", output.format(folder=tmp_path)]) == 2
    assert "it is a folder; expected a file's name" in capsys.readouterr().err


def test_what_a_file_says_cannot_steer_the_terminal(tmp_path, capsys):
    odd = Taste(torch.ones(4), "e" * 64, "ViT\x1b[2J", "Mara\nAnswers  9999", 3)
    assert cli.main(["show", str(save_taste(odd, tmp_path / "odd.safetensors"))]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "Mara\N{REPLACEMENT CHARACTER}Answers" in said


def test_a_prompt_says_what_is_liked_and_keeps_what_it_says(store, tmp_path, capsys):
    encoder = load_encoder("playground")
    plain, mint = encoder.encode_texts(["a red star", "a red star, mint background"])
    weights = (mint - plain) * 20
    taste = Taste(weights, encoder.identity, encoder.name, "Mara", 30, prior_variance=1e-4)
    file = save_taste(taste, tmp_path / "mint")
    words = ["prompt", "a red star", "--taste", str(file), "--words", "1"]
    assert cli.main(words) == 0
    assert capsys.readouterr() == ("a red star, mint background\n", "")
    assert cli.main([*words, "--avoid", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prompt"] == "a red star, mint background" and told["negative"].endswith(" background")
    assert told["added"][0]["word"] == "mint background" and told["added"][0]["gain"] > 0 > told["avoided"][0]["gain"]
    assert cli.main(["prompt", "a red star", "--taste", str(file), "--words", "99"]) == 2
    assert "0 to 8" in capsys.readouterr().err


def test_a_prompt_that_gets_no_word_says_so_beside_the_prompt(tmp_path, capsys):
    encoder = load_encoder("playground")
    taste = Taste(torch.zeros(encoder.dim), encoder.identity, encoder.name, "Mara", 2)
    words = ["prompt", "a red star", "--taste", str(save_taste(taste, tmp_path / "none"))]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert said.out == "a red star\n" and "No word was added" in said.err
    assert cli.main([*words, "--words", "0"]) == 0
    assert capsys.readouterr() == ("a red star\n", "")


def test_the_prompt_whose_pictures_are_least_known_comes_next(store, tmp_path, capsys):
    """Mara said what she thinks of red and blue; of two prompts, one differs in that alone, one in what is unknown."""
    chance = np.random.default_rng(0)
    with PreferenceStore(store) as kept:
        for prompt, low in (("plain colours", 250), ("wild patterns", 0)):
            pictures = [
                Image.fromarray(chance.integers(low, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64)) for _ in range(6)
            ]
            ids = [kept.add_image(picture) for picture in pictures]
            for left, right in zip(ids[::2], ids[1::2], strict=True):
                kept.add(Comparison("Mara", left, right, "tie", prompt))
    assert cli.main(["next", "--person", "Mara"]) == 0
    assert capsys.readouterr().out == "wild patterns\nplain colours\n"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red star\n\n a blue ring \na red star\n", encoding="utf-8")
    assert cli.main(["next", "--person", "Mara", "--prompts", str(prompts), "--count", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["person"] == "Mara" and told["prompts"][0] in ("a red star", "a blue ring") and len(told["prompts"]) == 1
    )


def test_seeds_whose_pictures_differ_in_what_is_unknown_come_next(store, capsys, monkeypatch):
    """Mara said what she thinks of red and blue: a seed that paints a wild pattern comes before those that don't."""
    chance = np.random.default_rng(0)
    noise = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    wild = noise.resize((64, 64), Image.Resampling.NEAREST)

    class Painter:
        defaults = SimpleNamespace(steps=20)

        def __init__(self, *_: object) -> None: ...

        def images(self, prompt, seeds, steps, on_step):
            assert (prompt, steps) == ("a red star", 7)
            return [wild if seed == 2 else Image.new("RGB", (64, 64), (200 + seed, 0, 0)) for seed in seeds]

    monkeypatch.setattr(steering, "Generator", Painter)
    assert cli.main(["next", "--person", "Mara", "--seeds", "a red star", "--among", "4", "--count", "3"]) == 0
    found = capsys.readouterr().out.split()
    assert found[0] == "2" and len(set(found)) == 3 and set(found) <= set("0123")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "a red star", "--among", "1"], "--among below 2"),
        (["--seeds", " "], "the prompt is empty"),
        (["--person", "Ben"], "found no prompt that 'Ben' compared two pictures of"),
        (["--prompts", "nowhere.txt"], "No such file"),
        (["--count", "0"], "--count of 1 or more"),
    ],
)
def test_where_there_is_nothing_to_choose_among_it_says_so(store, capsys, words, said):
    assert cli.main(["next", "--person", "Mara", *words]) == 2
    assert said in capsys.readouterr().err
