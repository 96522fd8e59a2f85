"""What `palate train lora` can be told beside the person: where pairs come from, how it trains, what it saves."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import FineTuneError
from .devices import training_device

if TYPE_CHECKING:
    from ..adapters.finetune.pairs import LabelledPair
    from ..adapters.finetune.settings import TrainSettings
    from ..adapters.finetune.vectors import Vectors
    from ..adapters.steering.joint_files import JointFiles

__all__ = ["add_train_options", "answered", "model_of", "pairs_for", "require_model", "settings_of", "whose"]

_NAMES = ("steps", "rank", "learning_rate", "batch", "accumulate", "beta", "seed", "size", "warmup", "ema")
_MORE = (
    "optimizer",
    "precision",
    "checkpointing",
    "frozen",
    "fixed_noise",
    "save_every",
    "full",
    "flip",
    "drop_doubted",
)
_OF_LOSSES = ("variant", "flip_rate", "temperature", "caption_dropout", "check_every")


def add_train_options(lora: argparse.ArgumentParser) -> None:
    """Add the options."""
    source = lora.add_mutually_exclusive_group()
    source.add_argument(
        "--data",
        default=None,
        metavar="PATH",
        help="pairs from elsewhere: a folder with chosen and rejected, .jsonl, .csv, .parquet",
    )
    source.add_argument("--liked", default=None, metavar="FOLDER", help="liked pictures; rejected ones are sampled")
    lora.add_argument(
        "--with",
        dest="parts",
        action="extend",
        nargs="+",
        default=None,
        metavar="FILE",
        help="for single files of SD3 and Flux: text encoders, VAE and T5's tokenizer.json its file lacks, or "
        "folders of them",
    )
    lora.add_argument("--prompt", default="", metavar="TEXT", help="of pictures that have none")
    lora.add_argument("--each", type=int, default=1, metavar="N", help="with --liked: samples for each picture")
    lora.add_argument("--limit", type=int, default=None, metavar="N", help="with --data: pairs at most")
    lora.add_argument("--full", action="store_true", default=None, help="train all weights; saves a whole model")
    lora.add_argument("--flip", action="store_true", default=None, help="see half of the pairs mirrored")
    lora.add_argument(
        "--drop-doubted",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave out answers that a taste of all the others doubts; nothing is deleted (default: if it can tell)",
    )
    lora.add_argument("--merge", default=None, metavar="FILE", help="also save the model with the LoRA merged in")
    lora.add_argument("--samples", type=int, default=0, metavar="N", help="pictures to paint before and after")
    _add_how(lora)


def _add_how(lora: argparse.ArgumentParser) -> None:
    """Options of the training itself."""
    lora.add_argument("--optimizer", default=None, metavar="NAME", help="adamw (the default), adamw8bit or adafactor")
    lora.add_argument("--ema", type=float, default=None, metavar="DECAY", help="keep an average of the weights")
    lora.add_argument("--warmup", type=float, default=None, metavar="SHARE", help="of the steps (default: 0.05)")
    lora.add_argument("--precision", default=None, metavar="NAME", help="float32 or bfloat16 (default: by the device)")
    lora.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute layers twice, to save memory (default: on a GPU)",
    )
    lora.add_argument(
        "--frozen",
        default=None,
        metavar="int8",
        help="hold weights that aren't trained in a byte each, for less memory",
    )
    lora.add_argument(
        "--fixed-noise", type=int, default=None, metavar="N", help="N draws a pair, the reference's errors known ahead"
    )
    lora.add_argument("--save-every", type=int, default=None, metavar="N", help="steps (default: each minute)")
    lora.add_argument("--check-every", type=int, default=None, metavar="N", help="steps between looks at unseen pairs")
    lora.add_argument("--caption-dropout", type=float, default=None, metavar="SHARE", help="without prompt (0.1)")
    lora.add_argument("--flip-rate", type=float, default=None, metavar="SHARE", help="cdpo, rdpo: of slips (0.1)")
    lora.add_argument("--temperature", type=float, default=None, help="rpo: of its contrast (default: 0.1)")
    lora.add_argument(
        "--variant",
        default=None,
        metavar="NAME",
        help="mapo: paper_exponent or paper_prefactor, as the paper may be read; adaptive_dpo: released, as its code",
    )


def settings_of(arguments: argparse.Namespace) -> TrainSettings:
    """The settings; `sft,dpo` are stages, the last one the loss.

    Raises:
        FineTuneError: one of them makes no sense.
    """
    from ..adapters.finetune.settings import TrainSettings

    *stages, loss = [name.strip() for name in arguments.loss.split(",")]
    _require_of_use(arguments, {*stages, loss})
    given = {name: getattr(arguments, name, None) for name in (*_NAMES, *_MORE, *_OF_LOSSES)}
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return TrainSettings(loss=loss, stages=tuple(stages), **known)


def _require_of_use(arguments: argparse.Namespace, losses: set[str]) -> None:
    """Refuse what was asked for and would do nothing: whoever typed it believes that it does."""
    said = vars(arguments)
    for name in ("data", "liked"):  # of a script's variable that isn't set
        if said.get(name) == "":
            raise FineTuneError(f"Cannot train: --{name} is empty; expected a path. Name it, or leave --{name} out.")
    for name in ("limit", "each"):
        if said.get(name) is not None and said[name] < 1:
            raise FineTuneError(f"Cannot train: --{name} is {said[name]}; expected 1 or more.")
    idle = {
        "merge": (not said.get("full"), "without --full, which saves the whole model by itself (-o names it)"),
        "rank": (not said.get("full"), "without --full, which trains all weights"),
        "flip_rate": (bool(losses & {"cdpo", "rdpo"}), "with --loss cdpo or rdpo"),
        "temperature": ("rpo" in losses, "with --loss rpo"),
        "limit": (bool(said.get("data")), "with --data"),
    }
    for name, (used, needed) in idle.items():
        if said.get(name) is not None and not used:
            raise FineTuneError(
                f"Cannot train: --{name.replace('_', '-')} would do nothing; expected it {needed}. Leave it out."
            )


def require_model(model: str) -> None:
    """Refuse a model that isn't there, before libraries are imported that take seconds.

    Raises:
        SteeringError: there is no such file or folder, or a folder of something else.
    """
    from ..adapters.errors import SteeringError
    from ..adapters.places import named_on_hub, not_there, typed_path

    where = typed_path(model)
    if model == "playground":  # whatever folder of that name there is here
        return
    if not model.strip():
        found = "no name"
    elif os.path.isdir(where):
        found = "" if os.path.isfile(where / "model_index.json") else "a folder without model_index.json"
    else:
        found = "" if os.path.isfile(where) or named_on_hub(model) else not_there(model)
    if found:
        raise SteeringError(
            f"Cannot train the model {model[:200]!r}: {found}; expected a diffusers folder or a .safetensors file of "
            "SD 1.5, SDXL, SD3, SD3.5 or FLUX.1. Give its path, or 'playground'."
        )


def model_of(arguments: argparse.Namespace) -> str | JointFiles:
    """What is trained: the model as it was named, or the files of one of SD3 or Flux; says which on the error stream.

    Raises:
        SteeringError: parts of it are missing, or there are some that fit nothing.
    """
    from ..adapters.errors import SteeringError

    given = getattr(arguments, "parts", None) or ()
    if arguments.model != "playground":
        from ..adapters.steering.joint_files import joint_files

        found = joint_files(arguments.model, given)
        if found is not None:
            if found.said:
                print(found.said, file=sys.stderr)
            return found
        _require_checkpoint(arguments.model)
    if given:
        raise SteeringError(
            f"Cannot train {arguments.model!r} with files beside it: it is no single file of SD3 or Flux. Leave --with "
            "out."
        )
    return str(arguments.model)


def _require_checkpoint(model: str) -> None:
    """Refuse a single file that is no whole model by its header, before anything of it is read."""
    from ..adapters.places import typed_path
    from ..adapters.steering.checkpoint_kind import checkpoint_family, read_shapes

    if os.path.isfile(file := typed_path(model)):
        checkpoint_family(file, read_shapes(file))


def whose(arguments: argparse.Namespace) -> str:
    """What a training is called where no name is given: by its person, or by its source."""
    source = getattr(arguments, "data", None) or getattr(arguments, "liked", None)
    return Path(source).stem if source else str(arguments.person)


def answered(arguments: argparse.Namespace, store: Path) -> list[LabelledPair] | None:
    """A person's pairs, before libraries are imported that take seconds; None where they come from elsewhere.

    Says how many on the error stream.

    Raises:
        NotEnoughAnswersError: no answer prefers one picture over another.
        StoreError: there is no store.
    """
    if getattr(arguments, "data", None) or getattr(arguments, "liked", None):
        return None
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.finetune.pairs import lost_answers, pairs_of, turned_over

    with PreferenceStore.existing(store) as answers:
        pairs, turned = pairs_of(answers, arguments.person), turned_over(answers, arguments.person)
        lost = lost_answers(answers, arguments.person)
    both = f" {turned} of them were answered both ways: the last answer counts." if turned else ""
    gone = f" Left out: {lost} whose pictures are gone." if lost else ""
    count = f"{len(pairs)} comparison{'' if len(pairs) == 1 else 's'}"
    print(f"{count} of {arguments.person!r}, loss {arguments.loss}.{both}{gone}", file=sys.stderr)
    return [replace(pair, prompt=pair.prompt or arguments.prompt) for pair in pairs]


def pairs_for(
    arguments: argparse.Namespace,
    store: Path,
    folder: Path,
    asked: Callable[[], bool],
    pairs: list[LabelledPair] | None = None,
) -> tuple[list[LabelledPair], Vectors]:
    """The pairs, and what the store knows of their pictures; of those from elsewhere it says how many.

    Args:
        folder: Of the training, where pictures are kept that come with tables or are sampled.
        asked: Whether somebody asked it to end.
        pairs: What `answered` found.
    """
    from ..adapters.places import typed_path

    if pairs is not None:
        return pairs, {} if arguments.drop_doubted is False else _known_vectors(arguments.person, store, pairs)
    if getattr(arguments, "data", None):
        from ..adapters.finetune.inputs import read_pairs

        found = read_pairs(typed_path(arguments.data), folder, arguments.prompt, arguments.limit)
        left_out = f", {found.left_out} left out{f' ({found.why})' if found.why else ''}" if found.left_out else ""
        print(f"{len(found.pairs)} pairs of {arguments.data}{left_out}.", file=sys.stderr)
        return list(found.pairs), {}
    from ..adapters.finetune.liked import against_samples, paints_of, pictures_and_prompts
    from .terminal import progress_line, silence

    pictures_and_prompts(typed_path(arguments.liked), arguments.prompt)  # what is wrong is said before a model loads
    silence()
    generator = paints_of(arguments.model, arguments.device or training_device())
    tell = progress_line("sample", sys.stderr)
    where = typed_path(arguments.liked), folder, arguments.prompt
    return against_samples(generator, *where, arguments.each, arguments.seed or 0, tell, asked), {}


def _known_vectors(person: str, store: Path, pairs: list[LabelledPair]) -> Vectors:
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.finetune.vectors import stored_vectors

    with PreferenceStore.existing(store) as answers:
        return stored_vectors(answers, person, pairs)
