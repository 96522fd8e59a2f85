"""`palate generate`: pictures from the command line, plain, along tastes and for users, that say how they were made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import steering_models as tiny
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.encoders import load_encoder
from palate.adapters.files import load_ppd, save_ppd, save_taste, save_user
from palate.adapters.places import ppd_folder
from palate.adapters.playground import playground_folder
from palate.adapters.playground.world import draw, random_card
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.layers import layers_of, width_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.adapters.ppd.user import User
from palate.adapters.steering import Generator
from palate.adapters.taste import Taste, fit_taste
from palate.ui import cli
from PIL import Image


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ppd(folder: Path) -> PPD:
    unet = Generator(folder)._pipeline.unet
    attention = UserAttention(layers_of(unet), width_of(unet))
    for place, value in enumerate(attention.values):
        value.weight.data += 2.0 * tiny.drawn(*value.weight.shape, seed=place)
    return PPD(attention, None, "custom", "test").half().float()


def words(folder: Path, *more: str) -> list[str]:
    return ["generate", "a red star", "--model", str(folder), "--steps", "2", "--size", "16", "--device", "cpu", *more]


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def mara(ppd: PPD, home: Path, name: str = "mara", seed: int = 0) -> Path:
    return save_user(User(tiny.drawn(4, ppd.width, seed=seed), ppd.identity, person=name), home / name)


def test_a_plain_picture_says_what_made_it(folder: Path, home: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(words(folder, "--seed", "7", "--negative", "blur", "--guidance", "3", "-o", "one")) == 0
    assert capsys.readouterr().out == "one.png\n"
    image = Image.open(home / "one.png")
    assert image.size == (16, 16)
    assert image.text["parameters"] == (
        "a red star\nNegative prompt: blur\nSteps: 2, CFG scale: 3, Seed: 7, Size: 16x16, Model: tiny"
    )
    said = json.loads(image.text["palate"])
    assert (said["seed"], said["users"], said["ppd"]) == (7, [], "")


def test_several_pictures_take_one_seed_after_the_other_and_overwrite_nothing(folder: Path, home: Path) -> None:
    (home / "palate-6.png").write_bytes(b"mine")
    assert cli.main(words(folder, "--seed", "5", "--count", "2")) == 0
    assert cli.main(words(folder, "--seed", "6", "-o", "six.png")) == 0
    assert (home / "palate-6.png").read_bytes() == b"mine"
    assert np.array_equal(pixels(home / "palate-6-2.png"), pixels(home / "six.png"))
    assert not np.array_equal(pixels(home / "palate-5.png"), pixels(home / "six.png"))


def test_a_user_is_painted_for_with_the_ppd_that_fits(
    folder: Path, home: Path, ppd: PPD, capsys: pytest.CaptureFixture
) -> None:
    save_ppd(ppd, ppd_folder() / "mine")
    (ppd_folder() / "other.safetensors").write_bytes(b"something else")
    one, two = mara(ppd, home), mara(ppd, home, "ann", seed=1)
    assert cli.main(words(folder, "-o", "plain")) == 0
    assert cli.main(words(folder, "--user", str(one), "-o", "hers")) == 0
    assert cli.main(words(folder, "--user", f"{one}:0.5", "--user", f"{two}:-1", "-o", "both", "--json")) == 0
    found = [pixels(home / f"{name}.png") for name in ("plain", "hers", "both")]
    assert not any(np.array_equal(a, b) for a, b in ((found[0], found[1]), (found[1], found[2])))
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["files"] == ["both.png"] and told["made"]["users"] == [["mara", 0.5], ["ann", -1.0]]
    said = Image.open(home / "both.png").text["parameters"]
    assert f"Palate user strength: 1, Palate users: 0.5 mara + -1 ann, Palate PPD: {ppd.identity[:12]}" in said
    assert cli.main(words(folder, "--user", str(one), "--user-strength", "0", "-o", "off")) == 0
    assert np.array_equal(pixels(home / "off.png"), found[0])


def test_a_private_picture_names_nobody(folder: Path, home: Path, ppd: PPD) -> None:
    file = save_ppd(ppd, home / "mine")
    assert cli.main(words(folder, "--user", str(mara(ppd, home)), "--ppd", str(file), "--private", "-o", "one")) == 0
    image = Image.open(home / "one.png")
    assert "mara" not in image.text["parameters"] + image.text["palate"]


def test_a_taste_and_a_user_go_together(folder: Path, home: Path, ppd: PPD) -> None:
    taste = Taste(tiny.drawn(tiny.JOINT), tiny.encoder().identity, "tiny", "mara", 12)
    file, weights = save_taste(taste, home / "taste.safetensors"), save_ppd(ppd, home / "mine")
    both = ["--user", str(mara(ppd, home)), "--ppd", str(weights), "--taste", f"{file}:2"]
    assert cli.main(words(folder, *both, "--strength", "0.5", "-o", "one")) == 0
    assert cli.main(words(folder, *both[:4], "-o", "two")) == 0
    assert not np.array_equal(pixels(home / "one.png"), pixels(home / "two.png"))
    assert "Palate strength: 0.5, Palate tastes: 2 taste" in Image.open(home / "one.png").text["parameters"]


def test_liked_words_are_in_the_prompt_that_the_picture_names(home: Path) -> None:
    encoder = load_encoder("playground")
    plain, mint = encoder.encode_texts(["a red star", "a red star, mint background"])
    taste = Taste((mint - plain) * 20, encoder.identity, encoder.name, "mara", 30, prior_variance=1e-4)
    file = save_taste(taste, home / "mara")
    asked = [
        "generate",
        "a red star",
        "--steps",
        "1",
        "--strength",
        "0",
        "--words",
        "1",
        "--device",
        "cpu",
        "-o",
        "one",
    ]
    assert cli.main([*asked, "--taste", str(file)]) == 0
    assert Image.open(home / "one.png").text["parameters"].startswith("a red star, mint background\n")


def answered(home: Path) -> None:
    """Mara likes red."""
    with PreferenceStore(home / "home" / "store") as store:
        cards = [random_card(Random(0), colour=colour) for colour in ("red", "blue", "green")]
        images = [store.add_image(draw(card)) for card in cards]
        store.add(Comparison("Mara", images[0], images[1], "left"))
        store.add(Comparison("Mara", images[0], images[2], "left"))


def test_for_a_person_all_that_their_answers_give_is_used(home: Path, capsys: pytest.CaptureFixture) -> None:
    answered(home)
    asked = ["generate", "a star", "--steps", "1", "--device", "cpu", "--for", "Mara", "--seed", "5", "--json"]
    assert cli.main([*asked, "-o", "best"]) == 0
    told = capsys.readouterr()
    made = json.loads(told.out)["made"]
    assert "For Mara, from 2 answers: 2 liked words at most, the prompt not moved, a denoiser told of 2" in told.err
    assert made["prompt"].startswith("a star, red") and made["users"] == made["tastes"] == [["Mara", 1.0]]
    assert made["ppd"] == load_ppd(playground_folder() / "ppd.safetensors").identity and made["strength"] == 0.0
    assert made["user_strength"] == 0.7
    # The same three pictures, each for itself: the one that Mara's taste likes best was kept.
    assert cli.main([*asked, "--best", "1", "--count", "3", "-o", "all/"]) == 0
    encoder = load_encoder("playground")
    with PreferenceStore(home / "home" / "store") as store:
        taste = fit_taste(store, encoder, "Mara")
    files = [home / "all" / f"palate-{seed}.png" for seed in (5, 6, 7)]
    liked = taste.utility(encoder.encode_images([Image.open(file) for file in files])).tolist()
    best = liked.index(max(liked))
    assert made["seed"] == 5 + best and np.array_equal(pixels(home / "best.png"), pixels(files[best]))
    # Where nothing of a person is asked for, the picture is the plain one.
    none = ["--words", "0", "--user-strength", "0", "--best", "1"]
    assert cli.main([*asked, *none, "-o", "none"]) == 0
    assert cli.main(["generate", "a star", "--steps", "1", "--device", "cpu", "--seed", "5", "-o", "plain"]) == 0
    assert np.array_equal(pixels(home / "none.png"), pixels(home / "plain.png"))


def test_without_a_ppd_that_fits_a_persons_taste_steers(folder: Path, home: Path, capsys, monkeypatch) -> None:
    answered(home)
    (ppd_folder() / "other.safetensors").write_bytes(b"something else")
    shutil.copytree(folder, home / "bare", ignore=shutil.ignore_patterns("clip"))
    assert cli.main(words(home / "bare", "--for", "Mara", "-o", "one")) == 2
    assert "Cannot generate for 'Mara': found no encoder for bare" in capsys.readouterr().err
    monkeypatch.setattr("palate.ui.users._ppd_files", lambda model: [])
    asked = ["generate", "a star", "--steps", "1", "--device", "cpu", "--for", "Mara", "--json", "-o", "one"]
    assert cli.main(asked) == 0
    told = capsys.readouterr()
    assert "strength 1, no PPD that fits" in told.err and json.loads(told.out)["made"]["users"] == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--count", "0"], "Cannot generate with --count 0; expected 1 or more"),
        (["--best", "0"], "Cannot generate with --best 0; expected 1 or more"),
        (["--best", "2"], "Cannot keep the best of 2: no taste; expected a taste and the encoder"),
        (["--words", "1", "--user", "{mara}"], "Cannot add --words 1: no --taste; expected a taste and the encoder"),
        (["--strength", "0.5", "--user", "{mara}"], "Cannot steer at --strength 0.5: no --taste; expected a taste and"),
        (["--user-strength", "0.5"], "--user-strength 0.5: for nobody; expected --user or --for"),
        (["--for", "Mara", "--user", "{mara}"], "for 'Mara' and by files at once"),
        (["--for", "Mara"], "found no store there"),
        (["--guidance", "nan"], "Cannot generate: guidance nan; expected a number"),
        (["--steps", "0"], "Cannot generate: 0 steps; expected 1 or more"),
        (["--size", "17"], "Cannot generate: 17x17 pixels; expected multiples of 8"),
        (["--seed", "-1"], "Cannot generate: seed -1; expected 0 to 2^64 - 1"),
        (["--seed", str(2**64 - 2), "--count", "3"], f"seed {2**64}; expected 0 to 2^64 - 1"),
        (["--user", "{mara}"], "found no PPD"),
        (["--user", "{mara}", "--user-strength", "100"], "strength 100; expected -5 to 5"),
        (["--user", "{mara}", "--user-start", "0.8", "--user-end", "0.2"], "from 0.8 to 0.2 of the schedule"),
        (["--user", "{mara}", "--ppd", "{other}"], "was made by the PPD"),
        (["--user", "{other}"], "its format is 'palate.ppd'; expected 'palate.user'"),
        (["--user", "none.safetensors"], "there is no such file"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line_before_the_model_loads(
    home: Path, ppd: PPD, more: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    other = save_ppd(PPD(UserAttention(ppd.attention.layers, ppd.width, seed=9), None, "custom"), home / "other")
    files = {"mara": mara(ppd, home), "other": other}
    assert cli.main(words(home / "no model", *(word.format(**files) for word in more))) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", str(2**64 - 1)], f"seed {2**64 + 1}; expected 0 to 2^64 - 1"),  # the best of three seeds
        (["--strength", "3"], "strength 3.0; expected 0 to 2"),
        (["--user-strength", "9"], "strength 9; expected -5 to 5"),
    ],
)
def test_settings_for_a_person_are_looked_at_before_the_model_loads(
    home: Path, more: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    answered(home)
    assert cli.main(words(home / "no model", "--for", "Mara", *more)) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_an_empty_prompt_is_refused(home: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["generate", " "]) == 2
    assert "Cannot generate: the prompt is empty" in capsys.readouterr().err


@pytest.mark.parametrize("person", ["Otto", ""])
def test_who_never_answered_is_told_so_before_the_model_loads(
    home: Path, person: str, capsys: pytest.CaptureFixture
) -> None:
    answered(home)
    assert cli.main(words(home / "no model", "--for", person, "-o", "one")) == 2
    assert f"Cannot generate for {person!r}: found no answers of theirs" in capsys.readouterr().err


def test_a_ppd_of_another_model_is_refused_by_name(folder: Path, home: Path, capsys: pytest.CaptureFixture) -> None:
    from palate.adapters.ppd.layers import standard_layers

    large = PPD(UserAttention(standard_layers("sd15")[:4], tiny.WIDTH), None, "sd15")
    file, user = save_ppd(large, home / "large"), mara(large, home)
    assert cli.main(words(folder, "--user", str(user), "--ppd", str(file))) == 2
    assert "expected 320 to 320 to 320 channels" in capsys.readouterr().err


def test_answers_become_a_user_that_pictures_are_made_for(
    folder: Path, home: Path, ppd: PPD, capsys: pytest.CaptureFixture
) -> None:
    encoder = load_encoder("playground")
    whole = PPD(
        ppd.attention, PairsEncoder(encoder.dim, ppd.width, hidden=32), "custom", "mine", encoder.identity, encoder.name
    )
    file = save_ppd(whole, ppd_folder() / "mine")
    answered(home)
    assert cli.main(["user", "Mara", "--ppd", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["person"], told["pairs"], told["ppd"]) == ("Mara", 2, load_ppd(file).identity)
    assert Path(told["file"]).parent == home / "home" / "users"
    assert cli.main(words(folder, "--user", told["file"], "-o", "hers")) == 0
    assert cli.main(words(folder, "-o", "plain")) == 0
    assert not np.array_equal(pixels(home / "hers.png"), pixels(home / "plain.png"))
    assert cli.main(["user", "Ben", "--ppd", str(file)]) == 2
    assert "embedding of 'Ben': found none" in capsys.readouterr().err


def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["generate", "x", "--size", "large"])
    assert "expected 512 or 768x512" in capsys.readouterr().err
