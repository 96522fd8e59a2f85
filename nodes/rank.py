"""The node that orders images by a taste."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.taste import Taste as LearnedTaste
from .sockets import CATEGORY, encoder_input, schema, taste_input


class PalateRankImages(io.ComfyNode):
    """Put the images of a batch in the order of a taste."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateRankImages",
            display_name="Rank Images",
            category=CATEGORY,
            search_aliases=["sort images", "best image", "score images", "aesthetic score"],
            description="Put the images of a batch in the order of a taste, best first.",
            inputs=[
                io.Image.Input("images", tooltip="A batch of one or more images."),
                taste_input(),
                encoder_input(),
                io.Int.Input(
                    "keep",
                    optional=True,
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="How many of the best to pass on, in images. 0 passes on all.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="Best first."),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="Utility of each image in nats, best first: a difference of 1.1 means that the better one "
                    "would be chosen three times out of four.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, images: torch.Tensor, taste: LearnedTaste, encoder: ImageTextEncoder, keep: int = 0
    ) -> io.NodeOutput:
        encoder.require(taste.encoder, "this taste", taste.encoder_name)
        utility = taste.utility(encoder.encode_images(images[..., :3]))
        order = torch.argsort(torch.as_tensor(utility), descending=True, stable=True)[: keep or None]
        return io.NodeOutput(images[order], [float(utility[k]) for k in order])
