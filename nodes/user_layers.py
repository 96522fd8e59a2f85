"""Where a user enters a MODEL of ComfyUI: its attentions to text, under diffusers' names and ComfyUI's."""

from __future__ import annotations

from typing import Any

from comfy.ldm.cascade.stage_c import StageC
from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP

from ..adapters.errors import PPDError
from ..adapters.ppd.host_layers import HostLayer, host_layers
from .user_joint import JointLayer, joint_layers, refuse_compiled

__all__ = ["user_layers"]


def user_layers(model: Any) -> tuple[tuple[HostLayer, ...] | tuple[JointLayer, ...], int]:
    """Find the attentions of a model that a user enters.

    Args:
        model: A MODEL; only looked at.

    Returns:
        The layers in the order of diffusers' attention processors, and the width of the text tokens that they take.

    Raises:
        PPDError: a kind of model that has no such layers; it names the class and those that have.
    """
    base = model.model
    denoiser = getattr(base.diffusion_model, "_orig_mod", base.diffusion_model)  # torch.compile wraps it
    if type(denoiser) in (StageC, OpenAISignatureMMDITWrapper, Flux):
        refuse_compiled(base.diffusion_model, model.wrappers.get(WrappersMP.APPLY_MODEL))
        return joint_layers(denoiser)
    if isinstance(denoiser, UNetModel):
        return host_layers(denoiser)
    raise PPDError(
        f"Cannot apply a user: the model is a {type(base).__name__} with a denoiser of class "
        f"{type(denoiser).__name__}; expected a UNet of SD1.x, SD2.x or SDXL, the playground's, Stable Cascade's "
        "stage C, SD3 or Flux. Load a checkpoint of the family that the PPD was trained for."
    )
