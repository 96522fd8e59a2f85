"""Train the playground's models again: `python -m palate.adapters.playground.training [PART ...] --folder FOLDER`.

The parts are `vae`, `clip`, `unet`, `decoder`, `export`, `ppd` and `card`, in this order; without any, all of them. A
run that was stopped goes on where its last checkpoint was. `vae` and `clip` may run at the same time, and so may `unet`
and `decoder`. `ppd-dpo` and `ppd-sft` are what the study `ppd-unseen` compares with; they stay in the folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from ..folder import playground_folder
from .clip import train_clip
from .models import Models, write_folder
from .tokenizer import write_tokenizer
from .unet import train_unet
from .vae import sharpen, train_vae

PARTS = ("vae", "clip", "unet", "decoder", "export", "ppd", "card")
STUDIED = ("ppd-dpo", "ppd-sft")  # only when asked for


def main() -> None:
    """Train what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m palate.adapters.playground.training", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, *STUDIED, []], help="what to do; all when left out")
    parser.add_argument("--folder", type=Path, default=Path("playground-training"), help="where checkpoints lie")
    parser.add_argument("--models", type=Path, default=None, help="where `export` writes; the package's own by default")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = options.parts or PARTS

    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(write_tokenizer(options.folder / "tokenizer"))
    trained: dict[str, Any] = {}
    models = options.models or Path(__file__).resolve().parents[1] / "models"
    # A finished part's training returns at once from its checkpoint.
    if {"vae", "unet", "decoder", "export"} & set(parts):
        trained["vae"] = train_vae(options.folder)
    if {"clip", "unet", "export"} & set(parts):
        trained["clip"] = train_clip(options.folder, tokenizer)
    if {"unet", "export"} & set(parts):
        trained["unet"] = train_unet(options.folder, trained["vae"], trained["clip"], tokenizer)
    if {"decoder", "export"} & set(parts):
        trained["vae"] = sharpen(options.folder, trained["vae"])
    if "export" in parts:
        write_folder(Models(vae=trained["vae"], unet=trained["unet"], clip=trained["clip"]), models)
    if "ppd" in parts:
        from .ppd import write_ppd

        write_ppd(options.folder, models)
    for loss in ("dpo", "sft"):
        if f"ppd-{loss}" in parts:
            from .ppd import write_everybody

            write_everybody(options.folder, loss)
    if "card" in parts:
        from .card import write_card

        write_card(options.models or playground_folder())


if __name__ == "__main__":
    main()
