"""What `palate train lora` can be told beside the person: where pairs come from, how it trains, what it saves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import FineTuneError
from .devices import training_device

if TYPE_CHECKING:
    from ..adapters.finetune.pairs import LabelledPair
    from ..adapters.finetune.settings import TrainSettings
    from ..adapters.finetune.vectors import Vectors
    from ..adapters.steering.joint_files import JointFiles

__all__ = ["add_train_options", "model_of", "pairs_for", "settings_of", "whose"]

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
    given = {name: getattr(arguments, name, None) for name in (*_NAMES, *_MORE, *_OF_LOSSES)}
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return TrainSettings(loss=loss, stages=tuple(stages), **known)


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
    if given:
        raise SteeringError(
            f"Cannot train {arguments.model!r} with files beside it: it is no single file of SD3 or Flux. Leave --with "
            "out."
        )
    return str(arguments.model)


def whose(arguments: argparse.Namespace) -> str:
    """What a training is called where no name is given: by its person, or by its source."""
    source = getattr(arguments, "data", None) or getattr(arguments, "liked", None)
    return Path(source).stem if source else str(arguments.person)


def pairs_for(
    arguments: argparse.Namespace, store: Path, folder: Path, asked: Callable[[], bool]
) -> tuple[list[LabelledPair], Vectors]:
    """The pairs, from the store or from elsewhere, and the store's vectors; says how many on the error stream.

    Args:
        folder: Of the training, where pictures are kept that come with tables or are sampled.
        asked: Whether somebody asked it to end.
    """
    from ..adapters.places import typed_path

    if getattr(arguments, "data", None):
        from ..adapters.finetune.inputs import read_pairs

        found = read_pairs(typed_path(arguments.data), folder, arguments.prompt, arguments.limit)
        left_out = f", {found.left_out} left out{f' ({found.why})' if found.why else ''}" if found.left_out else ""
        print(f"{len(found.pairs)} pairs of {arguments.data}{left_out}.", file=sys.stderr)
        return list(found.pairs), {}
    if getattr(arguments, "liked", None):
        from ..adapters.finetune.liked import against_samples, paints_of
        from .terminal import progress_line, silence

        if arguments.each < 1:
            raise FineTuneError(f"Cannot sample: --each is {arguments.each}; expected 1 or more.")
        silence()
        generator = paints_of(arguments.model, arguments.device or training_device())
        tell = progress_line("sample", sys.stderr)
        where = typed_path(arguments.liked), folder, arguments.prompt
        return against_samples(generator, *where, arguments.each, arguments.seed or 0, tell, asked), {}
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.finetune.pairs import pairs_of, turned_over
    from ..adapters.finetune.vectors import stored_vectors

    with PreferenceStore.existing(store) as answers:
        pairs, turned = pairs_of(answers, arguments.person), turned_over(answers, arguments.person)
        vectors = stored_vectors(answers, arguments.person, pairs) if arguments.drop_doubted is not False else {}
    both = f" {turned} of them were answered both ways: the last answer counts." if turned else ""
    print(f"{len(pairs)} comparisons of {arguments.person!r}, loss {arguments.loss}.{both}", file=sys.stderr)
    return pairs, vectors
