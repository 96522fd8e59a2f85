"""The node that picks the images of a batch that are worth asking about."""

from __future__ import annotations

import zlib

import torch
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import ShapeError
from ..adapters.taste import Taste as LearnedTaste
from ..adapters.taste import choose_set
from .questions import MOST
from .sockets import CATEGORY, Taste, encoder_input, schema


class PalateChoosePair(io.ComfyNode):
    """Pass on the images of a batch from whose comparison most would be learned."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateChoosePair",
            display_name="Choose Pair",
            category=CATEGORY,
            search_aliases=["next pair", "active learning", "pick candidates", "most informative images"],
            description="Pick the images of a batch that are worth asking about: those from whose comparison most "
            "would be learned. For Collect Pairs.",
            inputs=[
                io.Image.Input("images", tooltip="A batch of two or more; 8 images of one prompt are a good choice."),
                encoder_input(),
                Taste.Input(
                    "taste",
                    optional=True,
                    tooltip="What is known so far, from Fit Taste with without_answers = 'start with none', so that it "
                    "works from the first run on. Not connected: images that differ.",
                ),
                io.Int.Input(
                    "count",
                    optional=True,
                    default=2,
                    min=2,
                    max=MOST,
                    tooltip="How many images to pass on, 2 to 16: 2 for a pair, more for Collect Pairs' 'pick the "
                    "best' or 'put in order'. A smaller batch is passed on whole.",
                ),
                io.Float.Input(
                    "diversity",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 to 1. 0: images from which most would be learned. 1: images as different from each "
                    "other as the batch has them.",
                ),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The images worth asking about, sides tossed.")],
        )

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        encoder: ImageTextEncoder,
        taste: LearnedTaste | None = None,
        count: int = 2,
        diversity: float = 0.0,
    ) -> io.NodeOutput:
        if len(images) < 2:
            raise ShapeError("Cannot choose a pair: found 1 image; expected 2 or more. Set a larger batch_size.")
        if taste is not None:
            encoder.require(taste.encoder, "this taste", taste.encoder_name)
        if len(images) <= count:
            return io.NodeOutput(images)
        vectors = encoder.encode_images(images[..., :3])
        # By the images themselves: the same batch gives the same choice, and which side is left means nothing.
        numbers = torch.Generator().manual_seed(zlib.crc32(vectors.numpy().tobytes()))
        with torch.inference_mode(False):
            chosen = torch.tensor(choose_set(taste, vectors.clone(), count, generator=numbers, diversity=diversity))
        return io.NodeOutput(images[chosen[torch.randperm(count, generator=numbers)]])
