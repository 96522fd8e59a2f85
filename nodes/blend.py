"""The node that joins tastes."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ..adapters.taste import blend_tastes
from .sockets import CATEGORY, Taste, schema
from .weights import weighted, weighted_inputs


class PalateBlendTastes(io.ComfyNode):
    """Join tastes, each with a weight."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateBlendTastes",
            display_name="Blend Tastes",
            category=CATEGORY,
            search_aliases=["mix tastes", "merge preferences", "combine tastes"],
            description="Join up to four tastes of one encoder, each with a weight, negative ones too. What comes out "
            "is a taste like any other.",
            inputs=weighted_inputs(
                Taste,
                "taste",
                "A taste from Fit Taste, Load Taste or another Blend Tastes. All of one encoder.",
                "How much this taste counts, -10 to 10. Negative turns it around; 0 leaves it out.",
                defaults=(1.0, 1.0),
            ),
            outputs=[Taste.Output(display_name="taste", tooltip="For Adapt Conditioning, Rank Images and Save Taste.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(blend_tastes(*weighted(given, "taste", 1.0)))
