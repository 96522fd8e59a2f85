"""The command line: `palate panel`, `show PERSON`, `generate PROMPT`, `train lora`, `study NAME` and more.

Every error that Palate raises on purpose ends as one line on the error stream and exit code 2, so that scripts can
tell it from a crash. Commands live in `commands.py` and are imported when one is run: `palate --version` must not
wait for torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from ..adapters.errors import PreferenceError
from ..adapters.finetune.usual import USUAL_LOSS
from .asking import add_next_command
from .devices import require_device
from .evaluate import add_evaluate_command
from .exchange import add_exchange_commands, answer_options
from .generate import add_generate_command
from .merge import add_merge_command
from .rank import add_rank_command
from .tastes import add_blend_command, add_fit_command
from .train_options import add_train_options
from .train_ppd_options import add_ppd_options
from .users import add_user_command
from .wording import add_prompt_command

__all__ = ["main", "parser"]

DEFAULT_PORT = 7861
LOSSES = f"sft, dpo, cdpo, rdpo, ipo, kto, mapo, rpo or adaptive_dpo ({USUAL_LOSS}); sft,dpo are stages"


def version() -> str:
    """Return the installed version, or the one of a checkout that was never installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("palate")
    except PackageNotFoundError:
        return "0+checkout"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="palate",
        description="Teach an image generator your own taste by clicking.",
        epilog="Begin with `palate panel`. `palate COMMAND --help` tells what a command takes. Answers, tastes and "
        "models are in PALATE_HOME, by default palate in your user data folder.",
    )
    top.add_argument("--version", action="version", version=f"palate {version()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    _panel(commands.add_parser("panel", help="compare pictures and generate with your taste, in the browser"))
    study = commands.add_parser("study", help="run a study and print its table", add_help=False)
    study.add_argument("name", nargs="?", default=None, metavar="NAME", help="for example bt-accuracy")
    study.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the study")
    # Help before a name lists the studies, as no name does; behind a name it is the study's own.
    study.add_argument("-h", "--help", action="store_const", dest="name", const=None)

    people = commands.add_parser("people", help="who has answered in a store, and how often")
    people.add_argument("--json", action="store_true", help="print one JSON object")
    _store_option(people)
    _show(commands.add_parser("show", help="what was learned of a person or is in a file, in words or as a page"))
    add_fit_command(commands, _store_option)
    add_rank_command(commands, _store_option)
    add_blend_command(commands)
    add_evaluate_command(commands, _store_option)
    add_exchange_commands(commands, _store_option)
    add_generate_command(commands, _store_option)
    add_user_command(commands, _store_option)
    add_prompt_command(commands, _store_option)
    add_next_command(commands, _store_option)
    _export(commands.add_parser("export", help="make a file for other tools"))
    _train(commands.add_parser("train", help="train a model on a person's answers"))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 a mistake that the message explains, 130 interrupted."""
    from . import commands

    # OpenMP's threads otherwise wait for each other by spinning long. Where something else computes, a training or a
    # host, that takes the very cores that they wait for: a pair of pictures took minutes. Without spinning at all they
    # take twice as long where nothing else computes. Read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    run: dict[str, Callable[[argparse.Namespace], int]] = {
        "panel": commands.panel,
        "show": commands.show,
        "fit": commands.fit,
        "rank": commands.rank,
        "evaluate": commands.evaluate,
        "blend": commands.blend,
        "import": commands.import_,
        "compare": commands.compare,
        "people": commands.people,
        "generate": commands.generate,
        "prompt": commands.prompt,
        "next": commands.next_prompts,
        "user": commands.user,
        "export": commands.export,
        "study": commands.study,
        "train": commands.train,
    }
    try:
        words = sys.argv[1:] if argv is None else argv
        if not words:  # who types the name alone wants to see what there is
            parser().print_help(sys.stderr)
            return 2
        arguments = parser().parse_args(words)
        if getattr(arguments, "device", None):
            require_device(arguments.device)
        code = run[arguments.command](arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read has enough, as `head` has. What is still to be written goes nowhere, at the end of Python, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PreferenceError as error:
        print(f"palate: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _panel(panel: argparse.ArgumentParser) -> None:
    panel.add_argument("--port", type=_port, default=None, help=f"port on 127.0.0.1 (default {DEFAULT_PORT}; 0: any)")
    panel.add_argument("--no-browser", action="store_true", help="don't open a browser window")
    panel.add_argument(
        "--read-only", action="store_true", help="for looking only: tastes and people; nothing can be changed"
    )
    panel.add_argument("--password", action="store_true", help="ask visitors for one: PALATE_PASSWORD, else typed now")
    _store_option(panel)
    panel.add_argument("--person", default=None, metavar="NAME", help="whose answers these are (default: me)")
    panel.add_argument(
        "--model",
        default="playground",
        metavar="MODEL",
        help="a diffusers folder, a checkpoint file of SD1.5 or SDXL, or playground (the default)",
    )
    panel.add_argument(
        "--encoder",
        action="append",
        default=None,
        metavar="SPEC",
        help="the CLIP of the model's text encoder, for example open_clip:ViT-L-14/openai; twice for SDXL's two",
    )
    panel.add_argument("--device", default=None, help="cpu, cuda, mps (default: the best there is)")
    panel.add_argument(
        "--offload",
        choices=("auto", "none", "model", "sequential"),
        default="auto",
        help="what waits outside a small GPU: nothing, parts of the model, or single layers (default: what it needs)",
    )


def _show(show: argparse.ArgumentParser) -> None:
    show.add_argument("person", nargs="?", default="me", metavar="PERSON|FILE", help="whose taste (default: me)")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.add_argument("--html", default=None, metavar="FILE", help="save it as one page that any browser opens")
    show.add_argument("--prompt", default="", metavar="TEXT", help="look at pictures of this prompt only")
    show.add_argument("--named", action="store_true", help="write the person's name into the page")
    show.add_argument("--prompts", action="store_true", help="write the pictures' prompts into the page")
    show.add_argument("--model", default="playground", metavar="MODEL", help="its encoder learns (default: playground)")
    show.add_argument("--encoder", action="append", metavar="SPEC", help="or this one, as in `palate panel`")
    show.add_argument("--device", default=None, help="cpu, cuda, mps (default: the best there is)")
    _store_option(show)


def _train(train: argparse.ArgumentParser) -> None:
    kinds = train.add_subparsers(dest="kind", metavar="KIND", required=True)
    lora = kinds.add_parser("lora", help="a LoRA that loads in ComfyUI, A1111, Forge and diffusers")
    lora.add_argument("--person", default="me", metavar="NAME", help="whose answers (default: me)")
    lora.add_argument("--model", default="playground", metavar="FOLDER|FILE", help="what it is for")
    lora.add_argument("--loss", default=USUAL_LOSS, metavar="NAME", help=LOSSES)
    lora.add_argument("--beta", type=float, default=None, help="pull to the model as it is (default: the paper's)")
    lora.add_argument("--rank", type=int, default=None, help="of the LoRA (default: by the number of answers)")
    lora.add_argument("--learning-rate", type=float, default=None, help="(default: 1e-4; 3e-3 on the playground)")
    lora.add_argument("--steps", type=int, default=None, help="(default: by the number of answers)")
    lora.add_argument("--batch", type=int, default=None, help="pairs at a time (default: up to 8)")
    lora.add_argument("--accumulate", type=int, default=None, help="batches per step (default: 1)")
    lora.add_argument("--size", type=int, default=None, help="side of the pictures in pixels (default: the model's)")
    lora.add_argument("--seed", type=int, default=None, help="(default: 0)")
    lora.add_argument(
        "--encoder", default=None, metavar="SPEC", help="rpo: what is alike; cdpo, --drop-doubted: doubts"
    )
    lora.add_argument("--name", default=None, metavar="NAME", help="of the training and the file")
    lora.add_argument("-o", "--output", default=None, metavar="FILE", help="default: in PALATE_HOME/loras")
    lora.add_argument("--private", action="store_true", help="don't write into the file whose answers they were")
    lora.add_argument("--device", default=None, help="cpu, cuda (default: the best there is)")
    add_train_options(lora)
    _told(lora)
    _store_option(lora)
    ppd = kinds.add_parser("ppd", help="one model for many people, that knows a new one by a few answers")
    add_ppd_options(ppd)
    _told(ppd)
    _store_option(ppd)


def _told(training: argparse.ArgumentParser) -> None:
    """How another program starts a training: see `training.py`."""
    training.add_argument("--anew", action="store_true", help="don't go on with one of this name that was stopped")
    training.add_argument("--json", action="store_true", help="tell how it goes as one JSON object a line")
    training.add_argument("--starter", action="store_true", help="end, with a checkpoint, when standard input closes")


def _export(export: argparse.ArgumentParser) -> None:
    kinds = export.add_subparsers(dest="kind", metavar="KIND", required=True)
    answer_options(kinds.add_parser("answers", help="answers with their pictures, for other tools"), _store_option)
    add_merge_command(kinds)
    embedding = kinds.add_parser("embedding", help="a taste as a word for ComfyUI, Forge, A1111 and diffusers")
    embedding.add_argument(
        "--person", default=None, metavar="NAME", help="whose taste, learned from the answers (default: me)"
    )
    embedding.add_argument("--taste", action="append", metavar="FILE", help="a taste file instead; for SDXL up to two")
    embedding.add_argument(
        "--name", default=None, metavar="NAME", help="the word for prompts (default: from the person)"
    )
    embedding.add_argument("--model", default="playground", metavar="FOLDER|FILE", help="what it is for")
    embedding.add_argument("--encoder", action="append", metavar="SPEC", help="the model's CLIP; for SDXL up to two")
    embedding.add_argument("--vectors", type=int, default=None, metavar="N", help="places it takes in a prompt")
    embedding.add_argument("--steps", type=int, default=None, metavar="N", help="of training")
    embedding.add_argument("-o", "--output", default=None, metavar="FILE", help="default: in PALATE_HOME/embeddings")
    embedding.add_argument("--private", action="store_true", help="don't write into the file whose taste it is")
    embedding.add_argument("--json", action="store_true", help="print one JSON object")
    embedding.add_argument("--device", default=None, help="cpu, cuda, mps (default: the best there is)")
    _store_option(embedding)


def _store_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--store", default=None, metavar="FOLDER", help="the answers (default: in PALATE_HOME)")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; expected 0 to 65535")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
