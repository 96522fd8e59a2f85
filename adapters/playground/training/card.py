"""The playground's model card: how good its models are, measured on what they were never trained on."""

from __future__ import annotations

import json
import platform
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..captions import caption_of, named_in, sample_caption
from ..folder import SAMPLING, clip_config, load_clip_state
from ..measure import measure
from ..world import NAMED
from .cards import as_images, held_out_cards
from .clip import clip_pixels, small, truth

__all__ = ["measure_models", "write_card"]

PROMPTS = 300
BATCH = 20


def _pipeline(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _pictures(pipeline: Any, prompts: list[str], first_seed: int) -> list[Image.Image]:
    """One picture a prompt, the k-th from seed `first_seed + k`."""
    generators = [torch.Generator().manual_seed(first_seed + k) for k in range(len(prompts))]
    made: list[Image.Image] = pipeline(
        prompts,
        num_inference_steps=SAMPLING.steps,
        guidance_scale=SAMPLING.guidance,
        height=SAMPLING.size,
        width=SAMPLING.size,
        generator=generators,
    ).images
    return made


def _prompts_kept(pipeline: Any, count: int) -> dict[str, Any]:
    """Share of held-out prompts of which everything named is right, and the same for each property."""
    rng = random.Random("prompts")
    prompts = [sample_caption(card, rng) for card in held_out_cards(1, count)]
    right: list[bool] = []
    each: dict[str, list[bool]] = {name: [] for name in NAMED}
    for start in range(0, count, BATCH):
        batch = prompts[start : start + BATCH]
        for prompt, picture in zip(batch, _pictures(pipeline, batch, start), strict=True):
            found = measure(picture).named()
            said = named_in(prompt)
            right.append(all(found[name] == value for name, value in said.items()))
            for name, value in said.items():
                each[name].append(found[name] == value)
    kept = float(np.mean(right))
    half = 1.96 * (kept * (1 - kept) / count) ** 0.5
    return {
        "prompts": count,
        "kept": kept,
        "interval": [kept - half, kept + half],
        "each": {name: float(np.mean(values)) for name, values in each.items() if values},
    }


def _retrieval(folder: Path, groups: int = 10) -> dict[str, float]:
    """Top-1 retrieval among 100 held-out cards and captions that name four properties, subject and colour among them.

    A caption may be true of several of the cards. `caption_to_picture` and `picture_to_caption` count any that is
    true; `the_very_picture` counts only the card that the caption was written for, which nobody could find more often
    than `at_most`: among cards that a caption is true of, it doesn't say which.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    clip = CLIPModel(CLIPConfig(**clip_config(folder))).eval()
    clip.load_state_dict({name: tensor.float() for name, tensor in load_clip_state(folder).items()}, strict=False)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    shares: dict[str, list[float]] = {}
    for group in range(groups):
        rng = random.Random(f"retrieval/{group}")
        cards = held_out_cards(100 + group, 100)
        captions = [
            caption_of(card, ["subject", "colour", *rng.sample(["background", "pattern", "size", "place"], 2)])
            for card in cards
        ]
        true = truth(cards, captions)
        ids = tokenizer(captions, padding="max_length", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            text = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
            image = clip.visual_projection(clip.vision_model(pixel_values=clip_pixels(small(cards))).pooler_output)
        similarity = torch.nn.functional.normalize(text, dim=-1) @ torch.nn.functional.normalize(image, dim=-1).T
        each, pictures, said = torch.arange(100), similarity.argmax(1), similarity.argmax(0)
        for name, found in {
            "caption_to_picture": true[each, pictures],
            "picture_to_caption": true[said, each],
            "the_very_picture": pictures == each,
            "at_most": 1 / true.sum(1),
        }.items():
            shares.setdefault(name, []).append(found.float().mean().item())
    return {name: float(np.mean(values)) for name, values in shares.items()}


def _round_trip(pipeline: Any, count: int = 100) -> dict[str, float]:
    """Peak signal to noise ratio of held-out cards after the autoencoder, in dB, and how many still measure right."""
    cards = held_out_cards(2, count)
    errors, right = [], []
    for start in range(0, count, BATCH):
        images = as_images(cards[start : start + BATCH])
        with torch.no_grad():
            decoded = pipeline.vae.decode(pipeline.vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
        errors += ((decoded - images) / 2).square().mean((1, 2, 3)).tolist()
        pixels = ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        for card, drawn in zip(cards[start : start + BATCH], pixels, strict=True):
            right.append(measure(Image.fromarray(drawn)).agrees(card.named()))
    return {"decibels": float(np.mean(-10 * np.log10(errors))), "all_six_right": float(np.mean(right))}


def measure_models(folder: Path, prompts: int = PROMPTS) -> dict[str, Any]:
    """Measure the models in a pipeline folder; takes about three minutes on two cores."""
    pipeline = _pipeline(folder)
    four = ["a red star", "a large blue fish", "a green tree, rose background", "a small moon at the top"]
    seconds, runs = [], []
    for _ in range(3):
        started = time.perf_counter()
        runs.append(_pictures(pipeline, four, 0))
        seconds.append(time.perf_counter() - started)
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in ("README.md", "card.json")]
    return {
        "prompts": _prompts_kept(pipeline, prompts),
        "retrieval": _retrieval(folder),
        "round_trip": _round_trip(pipeline),
        "seconds_for_four": float(np.median(seconds)),
        "same_seed_same_bytes": all(a.tobytes() == b.tobytes() for a, b in zip(runs[0], runs[1], strict=True)),
        "megabytes": sum(file.stat().st_size for file in files) / 1e6,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }


def write_card(folder: Path) -> Path:
    """Measure the models and write `card.json` and the model card `README.md` beside them."""
    card = measure_models(folder)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_text(card), encoding="utf-8")
    return folder / "README.md"


def _text(card: dict[str, Any]) -> str:
    """The model card."""
    return f"""\
# The playground's models

A Stable Diffusion in small: the same parts in the same files, trained from scratch on drawn postcards of
128 x 128 pixels (`adapters/playground/world.py`). They show how Palate works, on any laptop, and let every
claim be tested. They know nothing but postcards.

{_table(card)}

Printed by `python -m palate.adapters.playground.training card` ({card["machine"]}). Everything is judged
from pixels by `adapters/playground/measure.py`, which uses no learned model. Held out: one in eight
combinations of subject, colour and background, in no training picture.

Trained by `python -m palate.adapters.playground.training`, seeds fixed, on a processor. The denoiser of
these files was stopped and gone on with while its number of steps, its learning rate's course and how often
patterns are seen were still being chosen: a run from scratch gives models like these, not the same numbers.

`ppd.safetensors` is a PPD for them (`adapters/ppd`), trained on simulated people's answers about drawn
postcards by `python -m palate.adapters.playground.training ppd`, seeds fixed, about 45 minutes on two cores:
5 for the encoder on answers alone, 20 in which the user attention is taught what DPO's optimum would
predict, which is known for drawn cards, 7 of DPO over 4,000 people's pairs, the rest for drawing. The second
part was stopped once and gone on with while its loss was still being chosen. What it gives people whom it
never saw is in [the studies](../../studies/README.md#ppd-for-people-who-were-never-trained-on).

Licence: as the rest of Palate.
"""


def _table(card: dict[str, Any]) -> str:
    """What was measured, a row each."""
    prompts, found, back = card["prompts"], card["retrieval"], card["round_trip"]
    low, high = prompts["interval"]
    each = ", ".join(f"{name} {100 * share:.0f} %" for name, share in prompts["each"].items())
    rows = {
        f"everything the prompt names is right, {prompts['prompts']} prompts, {SAMPLING.steps} steps, guidance "
        f"{SAMPLING.guidance:g}": f"{100 * prompts['kept']:.1f} % ({100 * low:.0f} to {100 * high:.0f})",
        "each property by itself": each,
        "a picture that the caption is true of, found among 100": f"{100 * found['caption_to_picture']:.1f} %",
        "a caption that is true of the picture, found among 100": f"{100 * found['picture_to_caption']:.1f} %",
        "the very picture that a caption was written for, among 100": f"{100 * found['the_very_picture']:.1f} %, of "
        f"{100 * found['at_most']:.1f} % that can be had: a caption is true of others, too",
        "autoencoder, there and back": f"{back['decibels']:.1f} dB; all six properties still right in "
        f"{100 * back['all_six_right']:.0f} %",
        "four pictures": f"{card['seconds_for_four']:.1f} s",
        "same seed, same bytes": "yes" if card["same_seed_same_bytes"] else "no",
        "size of all files": f"{card['megabytes']:.1f} MB",
    }
    head = ["| | measured on what was never trained on |", "|---|---|"]
    return "\n".join([*head, *(f"| {name} | {value} |" for name, value in rows.items())])
