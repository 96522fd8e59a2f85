"""Nodes that learn a taste, save it and load it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import NotEnoughAnswersError, StoreError
from ..adapters.files import load_taste, save_taste
from ..adapters.places import safe_name
from ..adapters.taste import Taste as LearnedTaste
from ..adapters.taste import fit_taste
from ..adapters.taste.person import TEACHING
from .sockets import (
    ADVANCED,
    CATEGORY,
    TASTES,
    Encoder,
    Taste,
    encoder_input,
    open_store,
    person_input,
    schema,
    taste_input,
    tastes_folder,
)
from .vectors import encode_new_images

_LOG = logging.getLogger(__name__)
_STOP, _WAIT, _NONE = "stop and say so", "skip what follows", "start with none"


class PalateFitTaste(io.ComfyNode):
    """Learn a person's taste from their answers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateFitTaste",
            display_name="Fit Taste",
            category=CATEGORY,
            search_aliases=["preference model", "bradley-terry", "learn preference", "train taste"],
            description="Learn a person's taste from all of their answers so far (Bradley-Terry). Takes milliseconds "
            "and runs again by itself when there are new answers.",
            inputs=[
                person_input(),
                encoder_input(),
                io.Float.Input(
                    "prior_variance",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="How strong a taste is expected, up to 1000; smaller is more cautious with few answers. "
                    "0 lets the answers decide.",
                ),
                io.Combo.Input(
                    "without_answers",
                    optional=True,
                    options=[_STOP, _WAIT, _NONE],
                    default=_STOP,
                    tooltip="What happens while this person has no answers yet: stop with a message; leave out the "
                    "nodes that need the taste; or start with a taste that prefers nothing, for Choose Pair.",
                ),
                io.Float.Input(
                    "half_life",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=36500.0,
                    step=1.0,
                    tooltip="For a taste that changes: after so many days an answer counts half. 0 counts all alike.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                Taste.Output(display_name="taste", tooltip="For Adapt Conditioning, Rank Images and Save Taste."),
                io.Int.Output(display_name="answers", tooltip="How many answers it was learned from."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, person: str | None = None, **_: Any) -> tuple[tuple[str, int], ...]:
        # A linked name isn't known here: then everybody's answers count. ComfyUI asks before a run, so a choice that is
        # made during it is in this fit, and makes the next run fit once more.
        store = open_store()
        return tuple((name, store.revision(name)) for name in ([person] if person else store.people()))

    @classmethod
    def execute(
        cls,
        person: str,
        encoder: ImageTextEncoder,
        prior_variance: float = 0.0,
        without_answers: str = _STOP,
        half_life: float = 0.0,
    ) -> io.NodeOutput:
        store = open_store()
        encode_new_images(store, encoder, [c for c in store.comparisons(person) if c.outcome in TEACHING])
        try:
            with torch.inference_mode(False):
                taste = fit_taste(
                    store, encoder, person, prior_variance=prior_variance or None, half_life=half_life or None
                )
        except NotEnoughAnswersError:
            if without_answers == _STOP:
                raise
            if without_answers == _NONE:
                return io.NodeOutput(_unlearned(encoder, person), 0)
            return io.NodeOutput(ExecutionBlocker(None), ExecutionBlocker(None))
        if without_answers == _WAIT and not bool(taste.weights.any()):  # nothing but ties so far
            return io.NodeOutput(ExecutionBlocker(None), ExecutionBlocker(None))
        return io.NodeOutput(taste, taste.answers)


class PalateSaveTaste(io.ComfyNode):
    """Save a taste as a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateSaveTaste",
            display_name="Save Taste",
            category=CATEGORY,
            search_aliases=["export taste", "save preference"],
            description="Save a taste as a small file that others can load: numbers only, no images and no prompts.",
            is_output_node=True,
            inputs=[
                taste_input(),
                io.String.Input(
                    "name",
                    default="my taste",
                    tooltip="Name of the file in Palate's tastes folder. A file of the same name is replaced.",
                ),
            ],
            outputs=[
                Taste.Output(display_name="taste", tooltip="The same taste, to go on with."),
                io.String.Output(display_name="file", tooltip="Name of the file in Palate's tastes folder."),
            ],
        )

    @classmethod
    def execute(cls, taste: LearnedTaste, name: str) -> io.NodeOutput:
        path = save_taste(taste, tastes_folder() / f"{safe_name(name)}.safetensors")
        return io.NodeOutput(taste, path.name, ui={"text": [f"Saved as {path.name}"]})


class PalateLoadTaste(io.ComfyNode):
    """Load a taste from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateLoadTaste",
            display_name="Load Taste",
            category=CATEGORY,
            search_aliases=["import taste", "load preference"],
            description="Load a taste that was saved here or by somebody else. With an encoder connected, a taste of "
            "another encoder is refused at once.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_taste_files(),
                    tooltip="A file in Palate's tastes folder; press R to see new ones.",
                ),
                Encoder.Input(
                    "encoder", optional=True, tooltip="The encoder it will be used with; checked when connected."
                ),
            ],
            outputs=[Taste.Output(display_name="taste", tooltip="For Adapt Conditioning and Rank Images.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> tuple[int, int]:
        info = _taste_path(file).stat()
        return info.st_mtime_ns, info.st_size

    @classmethod
    def execute(cls, file: str, encoder: ImageTextEncoder | None = None) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(load_taste(_taste_path(file), encoder))


def _unlearned(encoder: ImageTextEncoder, person: str) -> LearnedTaste:
    """A taste that prefers nothing, and knows that it knows nothing."""
    with torch.inference_mode(False):
        return LearnedTaste(torch.zeros(encoder.dim), encoder.identity, encoder.name, person, answers=0)


def _taste_files() -> list[str]:
    try:
        tastes_folder()
    except StoreError as error:  # an exception here would keep ComfyUI from loading any of the nodes
        _LOG.warning("Palate: %s", error)
        return []
    files: list[str] = folder_paths.get_filename_list(TASTES)
    return files


def _taste_path(file: str) -> Path:
    tastes_folder()
    return Path(folder_paths.get_full_path_or_raise(TASTES, file))
