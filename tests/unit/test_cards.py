"""`palate show FILE`: each kind of file that Palate writes as a card, and what it doesn't write by name."""

import json

import fuzz
import pytest
import torch
from palate.adapters.files import save_taste
from palate.adapters.playground import playground_folder
from palate.adapters.taste import Taste
from palate.ui import cli
from palate.ui.cards import read_card
from palate.ui.png_settings import as_parameters, png_with_text
from PIL import Image
from safetensors.torch import save_file

KINDS = {
    "taste.safetensors": ("taste", "A taste: Mara", "70 % of 9 answers"),
    "taste.png": ("taste", "A taste: Mara", "70 % of 9 answers"),
    "user.safetensors": ("user", "A user: Mara", "4 tokens of 6 numbers"),
    "ppd.safetensors": ("ppd", "PPD weights", "1, for tokens of 6 numbers"),
    "mara-taste.safetensors": ("embedding", "An embedding: mara-taste", "2 vectors for clip_l"),
    "lora.safetensors": ("lora", "A LoRA: lora", "1 layers of rank 2"),
    "star.png": ("picture", "A picture", "a star, blue"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("cards")
    fuzz._good(folder)
    made = as_parameters("a star, blue", "", [("Steps", 4), ("Seed", 7), ("Model", "playground")])
    (folder / "star.png").write_bytes(png_with_text(Image.new("RGB", (8, 8)), made, "{}"))
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_each_file_is_told_in_words_for_programs_and_drawn_on_a_page(folder, name, tmp_path, capsys):
    kind, title, fact = KINDS[name]
    page = tmp_path / "card.html"
    assert cli.main(["show", str(folder / name)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == title and fact in out
    assert cli.main(["show", str(folder / name), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == kind
    assert cli.main(["show", str(folder / name), "--html", str(page)]) == 0
    shown = page.read_text(encoding="utf-8")
    assert title in shown and fact in shown and ("<svg" in shown or "data:image/png" in shown)
    assert "http" not in shown.replace("http-equiv", "") and "<script" not in shown


def test_the_drawing_is_of_the_numbers(folder):
    """By hand: a LoRA layer's bar is the Frobenius norm of up @ down."""
    from palate.adapters.files.lora_file import load_lora_file

    tensors, _ = load_lora_file(folder / "lora.safetensors")
    down, up = (next(v.float() for k, v in tensors.items() if f"lora_{side}" in k) for side in ("down", "up"))
    (strength,) = read_card(folder / "lora.safetensors").told["strengths"].values()
    assert strength == pytest.approx(float((up @ down).norm()), rel=1e-5)
    strengths = read_card(folder / "ppd.safetensors").told["strengths"]
    assert strengths == [0.0]  # a PPD does nothing before it is trained


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, file), "found a LoRA"),
        (lambda file: save_file({"image_proj.x": torch.zeros(2)}, file), "found an IP-Adapter"),
        (lambda file: save_file({"x": torch.zeros(2)}, file, {"format": "palate.dream"}), "'palate.dream'.*Update"),
        (lambda file: file.write_bytes(b"\x80\x02cos\nsystem\n(S'x'\ntR."), "no file of Palate's"),
        (lambda file: file.mkdir(), "it is a folder"),
        (lambda file: None, "there is no such file"),
        (lambda file: Image.new("RGB", (2, 2)).save(file, "PNG"), "a picture that carries nothing"),
        (lambda file: file.write_bytes(b""), "no file of Palate's"),
    ],
)
def test_what_palate_did_not_write_is_named(tmp_path, capsys, make, said):
    import re

    file = tmp_path / "odd.safetensors"
    make(file)
    assert cli.main(["show", str(file)]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and "expected a taste, a user, PPD weights" in error and error.count("\n") == 1


def test_the_playgrounds_own_models_are_told(capsys):
    assert cli.main(["show", str(playground_folder() / "ppd.safetensors")]) == 0
    assert "PPD weights: playground" in capsys.readouterr().out
    assert cli.main(["show", str(playground_folder() / "unet" / "diffusion_pytorch_model.safetensors")]) == 2
    assert "found a denoiser alone" in capsys.readouterr().err


def test_what_a_file_says_is_text_on_its_page(tmp_path):
    odd = Taste(torch.ones(4), "e" * 64, "ViT", "<script>alert(1)</script>", 3)
    page = tmp_path / "page.html"
    assert cli.main(["show", str(save_taste(odd, tmp_path / "odd.safetensors")), "--html", str(page)]) == 0
    assert "<script" not in page.read_text() and "&lt;script&gt;" in page.read_text()


def test_a_lora_that_came_out_as_nan_is_named_and_never_told_as_json_that_is_none(tmp_path, capsys):
    halves = {f"lora_unet_a.lora_{side}.weight": torch.full((2, 2), torch.nan) for side in ("down", "up")}
    save_file(halves, tmp_path / "lora.safetensors", {"format": "palate.lora"})
    assert cli.main(["show", str(tmp_path / "lora.safetensors"), "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "not finite in 'lora_unet_a'" in told.err


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('{"strength": 0.5, "tastes": [["Mara", 1.0], ["Ben", -0.5]]}', ["Tastes  1 Mara + -0.5 Ben, at strength 0.5"]),
        (
            '{"strength": 0, "tastes": [["Mara", 1.0]], "users": [["Mara", 1.0]], "user_strength": 0.7}',
            ["Tastes  1 Mara, to choose the words and the best", "Users   1 Mara, at strength 0.7"],
        ),
        ("[1]", []),
        ('{"strength": 1, "tastes": [["Mara", 1%s]]}' % ("0" * 400), []),
        ("[" * 100_000, []),
    ],
)
def test_a_picture_tells_whose_it_is(said, told, tmp_path, capsys):
    made = as_parameters("a star", "", [("Steps", 4), ("Seed", 7), ("Model", "playground")])
    (tmp_path / "star.png").write_bytes(png_with_text(Image.new("RGB", (8, 8)), made, said))
    assert cli.main(["show", str(tmp_path / "star.png")]) == 0
    assert capsys.readouterr().out.splitlines()[4:] == told
