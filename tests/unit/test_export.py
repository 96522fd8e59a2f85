"""`palate export embedding`: from answers or a taste file to a file for other tools."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.encoders import load_encoder
from palate.adapters.files import load_embedding, save_taste
from palate.adapters.steering.neutral_prompts import ENOUGH, MOST, NEUTRAL_PROMPTS, training_prompts
from palate.adapters.steering.portable import PortableEmbedding
from palate.adapters.taste import fit_taste
from palate.ui import cli
from palate.ui.export import how_to_use
from palate.ui.terminal import progress_line
from PIL import Image


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.write_pipeline(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> Path:
    """Mara chose the brighter picture three times."""
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    with PreferenceStore(tmp_path / "answers") as answers:
        for number in range(3):
            sides = [answers.add_image(Image.new("RGB", (16, 16), (shade, 60 * number, 9))) for shade in (250, 10)]
            answers.add(Comparison("Mara Ö", *sides, "left", prompt="a red star"))
    return tmp_path / "answers"


def export(model: Path, *more: str) -> int:
    return cli.main(["export", "embedding", "--model", str(model), "--steps", "2", *more])


def test_answers_become_a_file_and_its_use_is_told_on_standard_output_alone(model, store, tmp_path, capsys) -> None:
    assert export(model, "--person", "Mara Ö", "--store", str(store), "--vectors", "2") == 0
    path = tmp_path / "home" / "embeddings" / "mara-taste.safetensors"
    found, shown = load_embedding(path), capsys.readouterr()
    assert found.count == 2 and found.person == "Mara Ö" and found.answers == 3 and found.base == "sd15"
    assert str(path) in shown.out and "embedding:mara-taste" in shown.out and "load_textual_inversion" in shown.out
    assert shown.err == ""


def test_a_taste_from_a_file_needs_no_store(model, store, tmp_path) -> None:
    with PreferenceStore.existing(store) as answers:
        taste = save_taste(fit_taste(answers, load_encoder(model), "Mara Ö"), tmp_path / "t.safetensors")
    out = tmp_path / "out" / "bright-one.safetensors"
    assert export(model, "--taste", str(taste), "--store", str(tmp_path / "none"), "-o", str(out), "--private") == 0
    assert load_embedding(out).person == "" and b"Mara" not in out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "'me' has not compared anything"),
        (["--person", "Mara Ö", "--name", "star"], "knows already"),
        (["--person", "Mara Ö", "--name", "one-a", "-o", "two-b"], "expected the same"),
        (["--person", "nobody"], "has not compared anything"),
        (["--person", "Mara Ö", "--vectors", "0"], "0 vectors"),
        (["--taste", "none.safetensors"], "no such file"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_exit_code_2(model, store, capsys, arguments, said: str) -> None:
    assert export(model, "--store", str(store), *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_name_that_is_taken_is_said_before_the_training(model, store, tmp_path, capsys, monkeypatch) -> None:
    taken = tmp_path / "mine-here.safetensors"
    taken.write_bytes(b"somebody else's")
    monkeypatch.setattr("palate.adapters.steering.inversion.train_embedding", lambda *_, **__: pytest.fail("trained"))
    assert export(model, "--person", "Mara Ö", "--store", str(store), "-o", str(taken)) == 2
    assert "expected a free name" in capsys.readouterr().err


def test_progress_is_one_line_in_a_terminal_and_nothing_in_a_pipe() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    line = Terminal()
    show = progress_line("Training", line)
    show(1, 2)
    show(2, 2)
    assert (
        line.getvalue() == "\rTraining 1 of 2\rTraining 2 of 2\n" and progress_line("Training", io.StringIO()) is None
    )


def test_sdxls_use_in_diffusers_names_both_text_encoders() -> None:
    both = PortableEmbedding({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)})
    said = how_to_use(both, Path("my-taste.safetensors"))
    assert 'state["clip_l"]' in said and "pipe.tokenizer_2" in said and "for SDXL" in said


def test_ones_own_prompts_come_first_and_are_filled_up() -> None:
    assert training_prompts(["a", "b", " a "])[:2] == ["a", "b"]
    assert training_prompts([], ["x", "y", "x"]) == ["x", "y"]
    assert training_prompts([]) == list(NEUTRAL_PROMPTS) and len(set(NEUTRAL_PROMPTS)) == len(NEUTRAL_PROMPTS) >= 60
    own = [f"prompt {number}" for number in range(500)]
    assert training_prompts(own) == own[::-1][:MOST] and len(training_prompts(own[:ENOUGH])) == ENOUGH
