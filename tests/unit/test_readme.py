"""The README's Python does what it says, with the playground in place of models that would have to be fetched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.encoders import load_encoder
from palate.adapters.files import load_ppd, save_ppd, save_taste, save_user
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune.lora import add_lora, lora_of
from palate.adapters.playground import playground_folder
from palate.adapters.taste import fit_taste
from PIL import Image

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FETCHED = '"open_clip:ViT-L-14/openai"'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for number, name in enumerate("ab"):
        Image.new("RGB", (64, 64), (200 * number, 40, 90)).save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_taste_in_a_few_lines(folder) -> None:
    (snippet,) = [text for text in SNIPPETS if FETCHED in text]
    found: dict = {}
    exec(snippet.replace(FETCHED, '"playground"'), found)
    assert found["taste"].answers == 1 and found["taste"].weights @ found["taste"].chosen[0] > 0


def test_a_taste_a_user_and_a_lora_in_a_pipeline_of_ones_own(folder) -> None:
    from diffusers import StableDiffusionPipeline

    (snippet,) = [text for text in SNIPPETS if "load_lora_weights" in text]
    pipe = StableDiffusionPipeline.from_pretrained(playground_folder())
    pipe.set_progress_bar_config(disable=True)
    _write_files(pipe)

    class Short:
        """The same pipeline, two steps and one seed."""

        def __getattr__(self, name):
            return getattr(pipe, name)

        def __call__(self, *args, **named):
            noise = torch.Generator("cpu").manual_seed(1)
            return pipe(*args, **named, generator=noise, num_inference_steps=2)

    plain = Short()("a red star").images[0].tobytes()
    found: dict = {"pipe": Short()}
    exec(snippet, found)
    pipe.unload_lora_weights()
    assert found["image"].tobytes() != plain == Short()("a red star").images[0].tobytes()


def _write_files(pipe) -> None:
    store, encoder, ppd = (
        PreferenceStore("clicks"),
        load_encoder("playground"),
        load_ppd(playground_folder() / "ppd.safetensors"),
    )
    left, right = store.add_image("a.png"), store.add_image("b.png")
    store.add(Comparison("mara", left, right, "left", prompt="a red star"))
    save_taste(fit_taste(store, encoder, "mara"), "mara-taste.safetensors")
    save_ppd(ppd, "people")
    chosen, rejected = encoder.encode_images([Image.open("a.png"), Image.open("b.png")])
    save_user(ppd.user(chosen[None], rejected[None], "mara"), "mara-user")
    unet = type(pipe.unet).from_pretrained(playground_folder() / "unet")
    add_lora(unet, 2)
    state = {name: torch.full_like(value, 0.05) for name, value in lora_of(unet).items()}
    save_lora(state, "mara-dpo", "sd15")
