"""The node that puts a user into a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.v0_0_2 import io

from ..adapters.ppd.host_blocks import KEY, UserTokens, tokens_of
from ..adapters.ppd.host_layers import HostLayer
from ..adapters.ppd.model import PPD
from ..adapters.ppd.user import MOST_STRENGTH, require_use
from ..adapters.ppd.user import User as UserEmbedding
from .sockets import CATEGORY, User, ppd_input, schema
from .user_joint import JointLayer
from .user_layers import user_layers
from .user_patch import UserPatch


class PalateApplyUser(io.ComfyNode):
    """A model that draws for one person."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateApplyUser",
            display_name="Apply User",
            category=CATEGORY,
            search_aliases=["ppd", "personalize model", "user embedding", "personalized diffusion", "user attention"],
            description="A model that draws for one person: a second cross-attention looks at the person's tokens "
            "beside the text's. Goes together with LoRAs, IP-Adapters and ControlNets in any order; two of these "
            "nodes in a row apply two people.",
            inputs=[
                io.Model.Input("model", tooltip="A model of the family that the PPD was trained for."),
                ppd_input(),
                User.Input(
                    "user",
                    tooltip="A user from Encode User, Load User or Blend Users; or a batch from Batch Users: then each "
                    "picture of the batch is for somebody else.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-MOST_STRENGTH,
                    max=MOST_STRENGTH,
                    step=0.05,
                    tooltip="How much the person counts, -5 to 5. 1 is as trained, below 0 leads away from the "
                    "person; 0 is exactly the model without.",
                ),
                _percent_input("start", 0.0, "0 is with the first step, at full noise"),
                _percent_input("end", 1.0, "1 is with the last step"),
            ],
            outputs=[io.Model.Output(tooltip="For the sampler, or a second Apply User.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ppd: PPD,
        user: UserEmbedding | tuple[UserEmbedding, ...],
        strength: float,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
    ) -> io.NodeOutput:
        require_use(strength, start_percent, end_percent)
        users = user if isinstance(user, tuple) else (user,)
        for one in users:
            ppd.takes(one)
        layers, width = user_layers(model)
        ppd.fits([layer.shape for layer in layers], width)
        patched = model.clone()
        each = {one: (tokens_of(ppd.attention, one.tokens), tokens_of(ppd.attention, one.negative)) for one in users}
        parts = [half for both in each.values() for half in both if half is not None]
        if strength and parts:
            patch = UserPatch(layers, [each[one] for one in users], strength, (start_percent, end_percent))
            patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, patch.outer_sample)
            patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, patch.calc_cond_batch)
            more = [_counted(half, layers, model) for half in parts]
            patched.set_additional_models(KEY, [*patched.get_additional_models_with_key(KEY), *more])
        return io.NodeOutput(patched)


def _percent_input(edge: str, default: float, means: str) -> io.Float.Input:
    return io.Float.Input(
        f"{edge}_percent",
        optional=True,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip=f"Where in the schedule it {edge}s, 0 to 1: {means}.",
    )


def _counted(tokens: UserTokens, layers: Sequence[HostLayer | JointLayer], model: Any) -> ModelPatcher:
    """For ComfyUI to make room for in a run: the tokens, and what they are folded into."""
    own = sum(weight.numel() * weight.element_size() for weight in tokens.parameters())
    count = tokens.keys[0].shape[0]
    shapes = [layer.shape for layer in layers if isinstance(layer, HostLayer)]
    folded = sum(shape.heads * count * (shape.query + shape.out) for shape in shapes)
    size = own + folded * model.model_dtype().itemsize
    return ModelPatcher(tokens, load_device=model.load_device, offload_device=model.offload_device, size=size)
