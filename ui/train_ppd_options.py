"""Options of `palate train ppd`, and what they say."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..adapters.errors import PPDError
from .devices import training_device

if TYPE_CHECKING:
    from ..adapters.ppd.beginning import KnownBy
    from ..adapters.ppd.settings import PPDSettings

__all__ = ["add_ppd_options", "ppd_known_by", "ppd_settings"]

_ABOUT = (
    "Train a PPD: one model for many people, that knows a new person by a few answers, without a\n"
    "training of their own. It needs answers of several people: those in a store, or a data set\n"
    "such as Pick-a-Pic."
)
_EXAMPLES = """\
  palate train ppd --name friends
      everybody in the store, for the playground
  palate train ppd --data pick-a-pic/ --model sd15.safetensors --start ip-adapter_sd15.safetensors --sample-every 500
      parquet shards with jpg_0, jpg_1, label_0, label_1, caption and user_id; the attention begins as an IP-Adapter's
  palate train ppd --data pick-a-pic/ --model sdxl.safetensors --prepare-only
  palate train ppd --data pick-a-pic/ --model sd15.safetensors --user-encoder vlm --four-bit
      people are known by profiles that LLaVA-OneVision writes of four answers at a time, once
  palate train ppd --data pick-a-pic/ --model stable-cascade-prior/
      Stable Cascade, SD3 and Flux as diffusers keeps them; the first with effnet_encoder.safetensors of its release in
      its folder. Such a file is for ComfyUI's Load PPD and for diffusers
  palate train ppd --person sharp --person bright --person calm --user-encoder learned --name rewards
      known rewards: each has tokens of its own, and Blend Users mixes them
  accelerate launch --num_processes 8 -m palate.ui.cli train ppd --data pick-a-pic/ --model sdxl.safetensors
      pictures are encoded once, by one process; then eight train on eight GPUs, each on its part of every batch

A training that was stopped or killed goes on with the same command. Some people are never trained on: at the end it is
said whether it does better than the base for them. Curves: tensorboard --logdir PALATE_HOME/training/ppd-NAME
"""
_SETTINGS = (
    "loss",
    "beta",
    "learning_rate",
    "schedule",
    "steps",
    "batch",
    "accumulate",
    "fewest",
    "most",
    "user_dropout",
    "caption_dropout",
    "judged_support",
    "held_out",
    "check_every",
    "save_every",
    "sample_every",
    "seed",
    "size",
)


def add_ppd_options(ppd: argparse.ArgumentParser) -> None:
    """Add the options, all but those that every training has."""
    ppd.description, ppd.epilog = _ABOUT, f"examples:\n{_EXAMPLES}"
    ppd.formatter_class = argparse.RawDescriptionHelpFormatter
    answers = ppd.add_argument_group("answers")
    answers.add_argument("--data", default=None, metavar="PATH", help="a parquet file or folder (default: the store)")
    answers.add_argument("--person", action="append", metavar="NAME", help="who of the store; several (default: all)")
    answers.add_argument("--held-out", type=float, metavar="SHARE", help="of the people, to judge by (default: 0.1)")
    answers.add_argument("--prepare-only", action="store_true", help="encode pictures and prompts, and end there")
    model = ppd.add_argument_group("model")
    model.add_argument(
        "--model",
        default="playground",
        metavar="FOLDER|FILE",
        help="of SD1.5 or SDXL; or a folder of Stable Cascade, SD3 or Flux",
    )
    model.add_argument("--start", default=None, metavar="FILE", help="begin with this PPD, or this IP-Adapter")
    model.add_argument("--encoder", default=None, metavar="SPEC", help="of image vectors (default: the model's CLIP)")
    model.add_argument("--size", type=int, help="side of the pictures in pixels (default: the model's)")
    people = ppd.add_argument_group("what people are known by")
    people.add_argument("--user-encoder", default="pairs", metavar="KIND", help="pairs (the default), vlm or learned")
    people.add_argument("--vlm", default=None, metavar="FOLDER|NAME", help="for vlm (default: LLaVA-OneVision 7B chat)")
    people.add_argument("--four-bit", action="store_true", help="hold its weights in 4 bits; needs bitsandbytes")
    people.add_argument("--profile-length", type=int, metavar="N", help="tokens of a profile at most (default: 1024)")
    people.add_argument("--profiles", type=int, metavar="N", help="of a person at most (default: 20)")
    _add_how(ppd.add_argument_group("training"))
    seen = ppd.add_argument_group("how it goes")
    seen.add_argument("--check-every", type=int, metavar="N", help="steps between looks at held-out people")
    seen.add_argument("--judged-support", type=int, metavar="N", help="answers they are known by then (default: 4)")
    seen.add_argument("--sample-every", type=int, metavar="N", help="steps between pictures for them (default: none)")
    seen.add_argument("--save-every", type=float, metavar="SECONDS", help="between checkpoints (default: 60)")
    file = ppd.add_argument_group("file")
    file.add_argument("--name", default="people", metavar="NAME", help="of the training and the file (default: people)")
    file.add_argument("-o", "--output", default=None, metavar="FILE", help="default: in PALATE_HOME/ppd")


def _add_how(how: argparse._ArgumentGroup) -> None:
    """Options of the training itself."""
    how.add_argument("--loss", metavar="NAME", help="dpo (the default), sft, cdpo, rdpo, ipo, kto or mapo")
    how.add_argument("--beta", type=float, help="pull to the model as it is (default: the paper's)")
    how.add_argument("--learning-rate", type=float, help="(default: 1e-4)")
    how.add_argument("--schedule", metavar="NAME", help="of the learning rate: constant (the default) or cosine")
    how.add_argument("--steps", type=int, help="(default: four times each pair, 500 to 20000)")
    how.add_argument("--batch", type=int, help="pairs at a time in each process (default: 8)")
    how.add_argument("--accumulate", type=int, help="batches per step (default: 1)")
    how.add_argument("--fewest", type=int, metavar="N", help="answers that a person is known by at least (default: 1)")
    how.add_argument("--most", type=int, metavar="N", help="and at most (default: 16)")
    how.add_argument(
        "--user-dropout", type=float, metavar="SHARE", help="seen as nobody (default: 0.1 for pairs, else 0)"
    )
    how.add_argument("--caption-dropout", type=float, metavar="SHARE", help="seen without a prompt (default: 0.1)")
    how.add_argument("--precision", default=None, metavar="NAME", help="float32 or bfloat16 (default: by the device)")
    how.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute layers twice, to save memory (default: on a GPU)",
    )
    how.add_argument("--device", default=None, help="cpu, cuda (default: the best there is)")
    how.add_argument("--seed", type=int, help="(default: 0)")


def ppd_settings(arguments: argparse.Namespace) -> PPDSettings:
    """How it is trained; what nobody says is chosen later.

    Raises:
        PPDError: a setting out of range.
    """
    from ..adapters.ppd.settings import PPDSettings

    given: dict[str, Any] = {name: getattr(arguments, name) for name in _SETTINGS}
    graphics = str(arguments.device or training_device()).startswith("cuda")
    given["precision"] = arguments.precision or ("bfloat16" if graphics else "float32")
    given["gradient_checkpointing"] = graphics if arguments.checkpointing is None else arguments.checkpointing
    if arguments.user_encoder != "pairs":  # nobody's tokens are zeros there, from which nothing is learned
        given["user_dropout"] = arguments.user_dropout or 0.0
    return PPDSettings(**{name: value for name, value in given.items() if value is not None})


def ppd_known_by(arguments: argparse.Namespace) -> KnownBy:
    """What people are known by.

    Raises:
        PPDError: no such kind, or something that is only for profiles with another one.
    """
    from ..adapters.ppd.beginning import KnownBy
    from ..adapters.ppd.describing import Describer

    given = {
        "source": arguments.vlm,
        "four_bit": arguments.four_bit or None,
        "device": arguments.device,
        "length": arguments.profile_length,
        "most": arguments.profiles,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    if arguments.user_encoder != "vlm" and set(asked) - {"device"}:
        raise PPDError(
            f"Cannot train people known by {arguments.user_encoder!r} with --vlm, --four-bit, --profile-length or "
            "--profiles; expected these with --user-encoder vlm. Leave them out, or add it."
        )
    return KnownBy(arguments.user_encoder, Describer(**asked))
