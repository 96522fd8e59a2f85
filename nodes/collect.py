"""The node that shows pairs of images and remembers which one a person prefers."""

from __future__ import annotations

import logging

import torch
from comfy_api.v0_0_2 import io

from ..adapters.comparisons import Offer, PreferenceStore
from ..adapters.errors import ComparisonError
from .pairs import told
from .sockets import CATEGORY, SOURCE, open_store, person_input

_LOG = logging.getLogger(__name__)
_RECORD = "record"


class PalateCollectPairs(io.ComfyNode):
    """Show pairs of images with buttons; the queue never waits for a click."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PalateCollectPairs",
            display_name="Collect Pairs",
            category=CATEGORY,
            description="Show images in pairs and ask which one you prefer. The queue goes on at once: click now or "
            "later. What you clicked counts from the next run on.",
            is_output_node=True,
            inputs=[
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
                io.Combo.Input(
                    "mode",
                    options=[_RECORD],
                    default=_RECORD,
                    tooltip="record: show the pairs and go on at once; answer whenever you like.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="All images, left and right in turn; the left ones only, where the sides have different "
                    "sizes.",
                ),
                io.String.Output(display_name="person", tooltip="The name, for Fit Taste."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        person: str,
        mode: str = _RECORD,
        images_b: torch.Tensor | None = None,
        prompt: str | None = None,
    ) -> io.NodeOutput:
        left, right = pair_up(images[..., :3], None if images_b is None else images_b[..., :3])
        store = open_store()
        shown = [
            _offer(store, person, prompt or "", store.add_image(one), store.add_image(other))
            for one, other in zip(left.cpu(), right.cpu(), strict=True)
        ]
        pairs = [told(offer) for offer in shown if offer is not None]
        if not pairs:
            raise ComparisonError(
                "Cannot ask which you prefer: left and right are the same picture; expected two different ones. "
                "Use another seed for one of them."
            )
        both = torch.stack([left, right], dim=1).flatten(0, 1) if left.shape == right.shape else images
        return io.NodeOutput(both, person, ui={"palate_pairs": pairs, "palate_person": [person]})


def pair_up(images: torch.Tensor, images_b: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Split batches (N, H, W, 3) into left and right sides.

    Raises:
        ComparisonError: fewer than two images, or sides of different length.
    """
    if images_b is None:
        if len(images) < 2:
            raise ComparisonError(
                "Cannot make a pair: found 1 image; expected 2 or more. Set batch_size to 2 in the latent node, or "
                "connect images_b."
            )
        even = len(images) // 2 * 2
        return images[0:even:2], images[1:even:2]
    if len(images) != len(images_b):
        raise ComparisonError(
            f"Cannot make pairs: found {len(images)} images on the left and {len(images_b)} on the right; expected the "
            "same number. Use the same batch_size for both."
        )
    return images, images_b


def _offer(store: PreferenceStore, person: str, prompt: str, left: str, right: str) -> Offer | None:
    if left == right:
        _LOG.warning("Palate left out a pair: both sides are the same picture. Use another seed for one of them.")
        return None
    return store.offer(person, left, right, prompt=prompt, source=SOURCE)
