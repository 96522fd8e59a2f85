"""The node that shows images and remembers which one a person prefers; on wish it waits for the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.utils
import torch
from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..adapters.comparisons import PreferenceStore
from ..adapters.errors import ComparisonError
from .asking import SENT_ON, Question, ask, decide
from .pairs import told
from .pause import ON_TIMEOUT, SKIP, pause
from .questions import PAIRS, SHOWS, forced, going_on, groups
from .sockets import CATEGORY, advanced, open_store, person_input, schema

_MODES = RECORD, WAIT = "record", "wait"


class PalateCollectPairs(io.ComfyNode):
    """Show images with buttons. `record` never holds up the queue; `wait` goes on with what was chosen."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateCollectPairs",
            display_name="Collect Pairs",
            category=CATEGORY,
            description="Show images and ask which one you prefer. The queue goes on at once, and what you clicked "
            "counts from the next run on; or it waits for your choice and goes on with the image you chose.",
            search_aliases=[
                "preference",
                "choose image",
                "pick image",
                "vote",
                "A/B",
                "compare images",
                "image picker",
            ],
            is_output_node=True,
            inputs=[*_what(), *_how()],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="record: all images, left and right in turn; the left ones only, where the sides have "
                    "different sizes. wait: the chosen one of each pair, both after a tie or a skip, none that is bad; "
                    "of a batch all, the best first. Where none is left, what follows is left out.",
                ),
                io.String.Output(
                    display_name="person",
                    tooltip="The name, for Fit Taste: connected there, the fit comes after the choice and learns from "
                    "it in the same run.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, mode: str = RECORD, person: str | None = None, **_: Any) -> object:
        # What is cached was made from the choice of then. A linked name isn't known here.
        return SENT_ON.changes(open_store(), person) if mode == WAIT else 0

    @classmethod
    async def execute(
        cls,
        images: torch.Tensor,
        person: str,
        mode: str = RECORD,
        images_b: torch.Tensor | None = None,
        prompt: str | None = None,
        show: str = PAIRS,
        timeout: float = 0.0,
        on_timeout: str = SKIP,
        forced_choice: str = "",
    ) -> io.NodeOutput:
        pictures = _in_turn(images, images_b)
        asked = groups(len(pictures), show)
        for group in asked:  # a choice that makes no sense is said before anything is kept
            forced(forced_choice, len(group))
        store = open_store()
        questions = ask(store, person, prompt or "", pictures, asked, waiting=mode == WAIT)
        for question in questions:
            if choice := forced(forced_choice, len(question.places)):
                decide(store, question, choice)
        if mode == WAIT:
            await pause(store, person, questions, timeout, on_timeout)
        found = {offer.id: (offer, answer) for offer, answer in store.asked.answers([q.offer for q in questions])}
        out = _all(images, images_b) if mode == RECORD else _chosen(store, person, pictures, questions)
        shown = [told(*found[question.offer]) for question in questions if question.offer in found]
        return io.NodeOutput(out, person, ui={"palate_pairs": shown, "palate_person": [person]})


def _what() -> list[Any]:
    """Inputs that say what is asked, and whom."""
    return [
        io.Image.Input(
            "images",
            tooltip="The left sides when images_b is connected. Else a batch of two or more: first and second "
            "make a pair, third and fourth the next one, and so on; an odd last image is left out.",
        ),
        io.Image.Input("images_b", optional=True, tooltip="The right sides, as many images as the left ones."),
        io.String.Input(
            "prompt",
            optional=True,
            force_input=True,
            tooltip="What the images were made from, kept with the answer. May stay empty.",
        ),
        person_input(),
    ]


def _how() -> list[Any]:
    """Inputs that say how it is asked, and what goes on when."""
    return [
        io.Combo.Input(
            "mode",
            options=list(_MODES),
            default=RECORD,
            tooltip="record: show the images and go on at once; answer whenever you like. wait: the nodes behind this "
            "one wait for your choice and get the image you chose; of a batch all images, the best first. Images that "
            "you decided before are not asked again. Cancel ends the waiting.",
        ),
        io.Combo.Input(
            "show",
            optional=True,
            options=list(SHOWS),
            default=PAIRS,
            tooltip="pairs: two at a time. pick the best, put in order: the whole batch at once, 3 to 16 images; one "
            "answer that counts as all the comparisons it implies.",
        ),
        advanced(
            io.Float,
            "timeout",
            default=0.0,
            min=0.0,
            max=604800.0,
            step=1.0,
            round=0.1,
            tooltip="wait: how long, in seconds, up to a week. 0 waits for as long as it takes.",
        ),
        advanced(
            io.Combo,
            "on_timeout",
            options=list(ON_TIMEOUT),
            default=SKIP,
            tooltip="wait, when the time is over. skip: send all images on, as record does; you may still answer "
            "later. tie: count it as 'equally good' and send all on. stop: end the run.",
        ),
        advanced(
            io.String,
            "forced_choice",
            default="",
            tooltip="For runs that nobody watches: counts as your answer, and nobody is asked. left, right, tie, "
            "both_bad or skip; for a batch the place of the best, '2', or the order, '3,1,2,4'. Leave it empty to be "
            "asked.",
        ),
    ]


def _in_turn(images: torch.Tensor, images_b: torch.Tensor | None) -> list[torch.Tensor]:
    """All images (H, W, 3) in the order in which they are asked about: left and right in turn.

    Raises:
        ComparisonError: sides of different length.
    """
    if images_b is None:
        return list(images[..., :3].cpu())
    if len(images) != len(images_b):
        raise ComparisonError(
            f"Cannot make pairs: found {len(images)} images on the left and {len(images_b)} on the right; expected the "
            "same number. Use the same batch_size for both."
        )
    return [side[..., :3].cpu() for both in zip(images, images_b, strict=True) for side in both]


def _all(images: torch.Tensor, images_b: torch.Tensor | None) -> torch.Tensor:
    """What goes on without a choice."""
    if images_b is None or images.shape[:3] != images_b.shape[:3]:
        return images
    return torch.stack([images[..., :3], images_b[..., :3]], dim=1).flatten(0, 1)


def _chosen(
    store: PreferenceStore, person: str, pictures: Sequence[torch.Tensor], questions: Sequence[Question]
) -> torch.Tensor | ExecutionBlocker:
    """The images that go on after the choices; those of another size take the first one's."""
    choices = SENT_ON.take(store, person, questions)
    chosen_by = zip(questions, choices, strict=True)
    places = [place for question, choice in chosen_by for place in going_on(question.places, choice)]
    if not places:
        return ExecutionBlocker(None)
    chosen = [pictures[place] for place in places]
    height, width = chosen[0].shape[:2]
    return torch.stack([_sized(picture, width, height) for picture in chosen])


def _sized(picture: torch.Tensor, width: int, height: int) -> torch.Tensor:
    if picture.shape[:2] == (height, width):
        return picture
    return comfy.utils.common_upscale(picture.movedim(-1, 0)[None], width, height, "lanczos", "center")[0].movedim(
        0, -1
    )
