"""The node that trains a LoRA on a person's answers, in a process of its own: nothing of training is loaded here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.v0_0_2 import io
from PIL import Image
from server import PromptServer

from ..adapters.files.lora_file import require_replaceable_lora
from ..adapters.finetune.losses import LOSSES
from ..adapters.finetune.names import FROZEN
from ..adapters.finetune.process import TrainingProcess
from ..adapters.finetune.protocol import Event, Finished, LeftOut, Prepared, Sampled, Stepped
from ..adapters.places import safe_name
from .learning import answers_mark
from .sockets import CATEGORY, advanced, person_input, schema
from .train_models import model_and_files, part_inputs, trainable

_DEFAULT = "default"
_PAUSE = 0.2  # seconds between two looks at the process
_PREVIEW = 512  # px
_SAMPLES = 1  # pictures that are painted before and after, and shown on the node
_made: set[Path] = set()  # by this process, so that one that was deleted since is made again


class PalateTrainPreferenceLora(io.ComfyNode):
    """Train a LoRA on a person's answers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateTrainPreferenceLora",
            display_name="Train Preference LoRA",
            category=CATEGORY,
            search_aliases=["train lora", "dpo", "mapo", "diffusion-dpo", "fine-tune", "preference optimization"],
            description="Train a LoRA on a person's answers (DPO, MaPO and others), in a process of its own. The queue "
            "waits meanwhile; Cancel keeps what was reached, and the same settings go on from there.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=trainable(),
                    tooltip="What the LoRA is for: a checkpoint of SD1.5, SDXL, SD3 or Flux, a file of SD3 or Flux in "
                    "models/diffusion_models, a diffusers folder in models/diffusers, or Palate's small playground. It "
                    "works with others of the same family, too.",
                ),
                person_input(),
                io.Combo.Input(
                    "loss",
                    options=[_DEFAULT, *LOSSES],
                    default=_DEFAULT,
                    tooltip="What is made of the answers. default chooses; mapo needs the least memory, sft learns "
                    "from the chosen images alone, rdpo and adaptive_dpo doubt answers that may be slips.",
                ),
                io.String.Input(
                    "name",
                    default="my-lora",
                    tooltip="Name of the file in ComfyUI's loras folder. A LoRA of the same person that Palate trained "
                    "is replaced, any other file is not.",
                ),
                *_numbers(),
                *_switches(),
                _size(),
                *part_inputs(),
                _frozen(),  # last, as graphs that are saved hold values by their place
            ],
            outputs=[
                # Of any type: a loader's list of names is a type of its own, which none but the same list fits.
                io.AnyType.Output(display_name="lora_name", tooltip="For Load LoRA's lora_name."),
                io.String.Output(display_name="file", tooltip="The same name as text."),
                io.String.Output(display_name="found", tooltip="How good it is on answers that it did not train on."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, person: str | None = None, name: str | None = None, **_: Any) -> object:
        file = _file(name) if name else None
        return answers_mark(person), file in _made and file is not None and not file.exists()

    @classmethod
    async def execute(
        cls,
        checkpoint: str,
        person: str,
        loss: str,
        name: str,
        rank: int = 0,
        learning_rate: float = 0.0,
        steps: int = 0,
        seed: int = 0,
        begin_anew: bool = False,
        drop_doubted: bool = True,
        size: int = 0,
        frozen: str = _DEFAULT,
        **parts: str,
    ) -> io.NodeOutput:
        file = _file(name)
        require_replaceable_lora(file, person)
        model, files, taken = model_and_files(checkpoint, parts)
        given = {
            "person": person,
            "model": model,
            "loss": "" if loss == _DEFAULT else loss,
            "rank": rank,
            "learning-rate": learning_rate,
            "steps": steps,
            "seed": seed,
            "size": size,
            "frozen": "" if frozen == _DEFAULT else frozen,
            "name": f"comfyui {name}",
            "output": file,
            "samples": _SAMPLES,
        }
        words = [f"--{key}={value}" for key, value in given.items() if value]
        words += [f"--with={file}" for file in files]
        flags = {"--anew": begin_anew, "--no-drop-doubted": not drop_doubted}
        words += [flag for flag, on in flags.items() if on]
        found, left_out = await _train(["lora", *words], cls.hidden.unique_id)
        _made.add(file)
        said = "".join(f"{text}\n" for text in (found.summary, left_out, taken) if text)
        said += f"Saved as {file.name}." + (f"\nIt ended early: {found.stopped}." * bool(found.stopped))
        return io.NodeOutput(file.name, file.name, said, ui={"text": [said]})


async def _train(arguments: Sequence[str], node: str) -> tuple[Finished, str]:
    """Run it, with progress on the node; Cancel ends it and keeps its checkpoint. Also what was said to be left out.

    Raises:
        FineTuneError: it couldn't start or go on. InterruptProcessingException: it was cancelled.
    """
    with TrainingProcess(arguments) as training:
        comfy.model_management.unload_all_models()  # the other process needs the memory
        comfy.model_management.soft_empty_cache()
        shown = _Shown(node)
        shown.say("Starting…")
        while training.running:
            for event in training.news():
                shown(event)
            comfy.model_management.throw_exception_if_processing_interrupted()
            await asyncio.sleep(_PAUSE)
        result = training.result()
        for event in training.news():
            shown(event)
        return result, shown.left_out


class _Shown:
    """Shows how far it is on the node."""

    def __init__(self, node: str) -> None:
        self._bar, self._node, self._judged, self.left_out = comfy.utils.ProgressBar(1), node, "", ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Prepared):
            self._bar.update_absolute(event.done, event.all)
            self.say(f"Reading images: {event.done} of {event.all}")
        elif isinstance(event, LeftOut):
            self.left_out = event.text
            self.say(event.text)
        elif isinstance(event, Stepped):
            if event.judgement is not None:
                self._judged = f", {100 * event.judgement['accuracy']:.0f} % of unseen answers right"
            self._bar.update_absolute(event.step, event.steps)
            self.say(f"Step {event.step} of {event.steps}{self._judged}{_left(event.seconds_left)}")
        elif isinstance(event, Sampled) and event.files:
            with Image.open(event.files[0]) as picture:
                self._bar.update_absolute(self._bar.current, preview=("JPEG", picture.convert("RGB"), _PREVIEW))

    def say(self, text: str) -> None:
        PromptServer.instance.send_progress_text(text, self._node)


def _left(seconds: float | None) -> str:
    if not seconds:
        return ""
    return f", {seconds:.0f} s left" if seconds < 90 else f", {seconds / 60:.0f} min left"


def _file(name: str) -> Path:
    return Path(folder_paths.get_folder_paths("loras")[0]) / f"{safe_name(name)}.safetensors"


def _numbers() -> list[Any]:
    """Settings of the training; 0 takes the default."""
    return [
        advanced(
            io.Int,
            "rank",
            default=0,
            min=0,
            max=128,
            tooltip="Of the LoRA, 1 to 128: more can hold more, and learns mistakes by heart sooner. 0 goes by the "
            "number of answers.",
        ),
        advanced(
            io.Float,
            "learning_rate",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.00001,
            round=False,
            tooltip="Of AdamW, 0 to 1. 0 takes the default.",
        ),
        advanced(
            io.Int,
            "steps",
            default=0,
            min=0,
            max=1_000_000,
            tooltip="Training steps. 0 goes by the number of answers.",
        ),
        advanced(
            io.Int,
            "seed",
            default=0,
            min=0,
            max=2**31 - 1,
            control_after_generate=False,  # another seed each time would train each time
            tooltip="Fixes noise, order and start: the same seed gives the same LoRA.",
        ),
    ]


def _switches() -> list[Any]:
    return [
        advanced(
            io.Boolean,
            "begin_anew",
            default=False,
            tooltip="Off: a training of this name that was cancelled goes on where it stood, and other settings or new "
            "answers are refused. On: it is forgotten.",
        ),
        advanced(
            io.Boolean,
            "drop_doubted",
            default=True,
            tooltip="On: answers that a taste learned from all the others doubts are not trained on, where the images' "
            "vectors are known, as Fit Taste keeps them. Nothing is deleted; found says how many.",
        ),
    ]


def _size() -> Any:
    return advanced(
        io.Int,
        "size",
        default=0,
        min=0,
        max=2048,
        step=16,
        tooltip="Side of the pictures in pixels that it trains at: smaller ones take less memory and time. 0 takes the "
        "model's own.",
    )


def _frozen() -> Any:
    return advanced(
        io.Combo,
        "frozen",
        options=[_DEFAULT, *FROZEN],
        default=_DEFAULT,
        tooltip="How the model's own weights, which aren't trained, are held while it trains. int8: in a byte each, "
        "half of their memory, so that Flux fits where it would not. The LoRA is for the model as it is.",
    )
