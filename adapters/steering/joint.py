"""Stable Diffusion 3 and Flux, which attend to text and picture jointly: loaded, told prompts, painted with.

Shapes: T tokens, H width of the conditioning, D of the pooled vector.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import SteeringError
from ..places import typed_path
from .conditioning import Conditioning
from .pipelines import all_in, named_when_not_whole, weights_in

__all__ = ["SIDE", "SIDES", "JointModel", "JointPaints", "is_joint", "load_joint"]

SIDE = 1024  # pixels of both
SIDES = 16  # pixels that sides are multiples of
_TOWERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_T5 = 256  # tokens of T5, as both pipelines can have: a prompt in full
_STEPS, _FEW_STEPS = 28, 4  # of a sample; few for FLUX.1-schnell
_GUIDANCE = {"sd3": 7.0, "flux": 3.5}
_FLUX = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")  # of the same weights


class JointModel:
    """Either of the two, on the CPU at first.

    Attributes:
        pipeline: diffusers' StableDiffusion3Pipeline or FluxPipeline.
        family: "sd3" or "flux". name: For people.

    Args:
        read: Loads the denoiser when it is first asked for; until then the pipeline has one without weights.
    """

    def __init__(self, pipeline: Any, name: str = "", read: Callable[[], Any] | None = None) -> None:
        self.pipeline, self.name, self._read = pipeline, name, read
        self.family = "flux" if type(pipeline).__name__.startswith("Flux") else "sd3"

    @property
    def denoiser(self) -> Any:
        """diffusers' SD3Transformer2DModel or FluxTransformer2DModel."""
        if self._read is not None:
            self.pipeline.transformer, self._read = self._read(), None
        return self.pipeline.transformer

    @property
    def config(self) -> Any:
        """Of the denoiser, which isn't loaded for it."""
        return self.pipeline.transformer.config

    @property
    def release(self) -> str:
        """Which of its family it is, as LoRA files say what they are for; see `save_lora`."""
        config = self.config
        if self.family == "flux":
            return "flux" if config.guidance_embeds else "flux-schnell"
        if config.get("dual_attention_layers"):
            return "sd35-medium"
        return "sd35-large" if config.get("qk_norm") else "sd3"  # 3.5's attention is normed

    @property
    def towers(self) -> list[Any]:
        """The text encoders that it has; SD3 goes without its T5, too."""
        parts = [getattr(self.pipeline, name, None) for name in _TOWERS]
        return [part for part in parts if part is not None]

    @torch.no_grad()
    def said(self, prompt: str, device: torch.device) -> Conditioning:
        """A prompt as the denoiser takes it: (1, T, H) and (1, D) in float32 on the CPU, always as many tokens.

        The text encoders go to the device with the first prompt: whoever has read all of them already needs none there.
        """
        for part in self.towers:
            part.to(device)
        asked = {"prompt": prompt, "prompt_2": prompt, "device": device, "max_sequence_length": _T5}
        if self.family == "flux":
            tokens, pooled, _ = self.pipeline.encode_prompt(**asked)
        else:
            tokens, _, pooled, _ = self.pipeline.encode_prompt(
                **asked, prompt_3=prompt, do_classifier_free_guidance=False
            )
        return Conditioning(tokens.float().cpu(), pooled.float().cpu())

    def has_read(self) -> None:
        """Let go of the text encoders: a T5 is larger than most else."""
        for name in _TOWERS:
            if getattr(self.pipeline, name, None) is not None:
                setattr(self.pipeline, name, None)
        self.pipeline.vae.to("cpu")

    @torch.no_grad()
    def drawn(
        self, said: Conditioning, nothing: Conditioning, seed: int, size: int, precision: torch.dtype
    ) -> Image.Image:
        """One picture, where the denoiser is.

        Args:
            said, nothing: The prompt, and the empty one, which SD3 is guided away from.
            seed: Of its noise. size: Side in pixels.
            precision: Of forward passes.
        """
        pipeline, at, vae = self.pipeline, self.denoiser.device, self.pipeline.vae
        asked = {"prompt_embeds": said.tokens, "pooled_prompt_embeds": said.pooled}
        if self.family == "sd3":
            asked |= {"negative_prompt_embeds": nothing.tokens, "negative_pooled_prompt_embeds": nothing.pooled}
        asked = {name: tensor.to(at, self.denoiser.dtype) for name, tensor in asked.items() if tensor is not None}
        few = self.family == "flux" and not self.config.guidance_embeds  # FLUX.1-schnell
        home = vae.device
        vae.to(at)  # in full precision, as it has read
        # Older diffusers compute where they find any of their parts, and the text encoders may be elsewhere.
        towers = {name: getattr(pipeline, name) for name in _TOWERS if getattr(pipeline, name, None) is not None}
        for name in towers:
            setattr(pipeline, name, None)
        try:
            with torch.autocast(at.type, precision, enabled=precision != torch.float32):
                found: Image.Image = pipeline(
                    **asked, height=size, width=size, num_inference_steps=_FEW_STEPS if few else _STEPS,
                    guidance_scale=_GUIDANCE[self.family], generator=torch.Generator().manual_seed(seed),
                ).images[0]  # fmt: skip
        finally:
            vae.to(home)
            for name, tower in towers.items():
                setattr(pipeline, name, tower)
        return found


class JointPaints:
    """Pictures by seed, as `Generator` gives them of UNets.

    Args:
        model: On the CPU; its text encoders stay there. device: Where it paints.
    """

    def __init__(self, model: JointModel, device: torch.device) -> None:
        self._model, self.name, self._said = model, model.name, dict[str, Conditioning]()
        model.denoiser.to(device)

    def images(self, prompt: str, seeds: list[int]) -> list[Image.Image]:
        """One picture for each seed."""
        for text in (prompt, ""):
            if text not in self._said:
                self._said[text] = self._model.said(text, torch.device("cpu"))
        model, said, nothing = self._model, self._said[prompt], self._said[""]
        return [model.drawn(said, nothing, seed, SIDE, model.denoiser.dtype) for seed in seeds]


def is_joint(kind: str) -> bool:
    """Whether a pipeline's class is one of these models', or of their variants, which `load_joint` refuses."""
    return kind.startswith(("StableDiffusion3", "Flux"))


def load_joint(model: str | Path, kind: str, dtype: torch.dtype) -> JointModel:
    """Load Stable Diffusion 3, 3.5 or FLUX.1 onto the CPU.

    Args:
        model: A diffusers folder, or a name on the hub. kind: Its pipeline's class, as `pipeline_kind` says it.
        dtype: Of its weights; the autoencoder's are float32.

    Raises:
        SteeringError: a variant of Flux for filling, depth or editing, which takes other latents; or it isn't whole.
    """
    import diffusers

    if kind.startswith("Flux") and kind not in _FLUX:
        raise SteeringError(
            f"Cannot load the model {Path(model).name!r}: found a {kind}; expected FLUX.1-dev or -schnell. Give one of "
            "those, as a diffusers folder."
        )
    pipeline = diffusers.FluxPipeline if kind.startswith("Flux") else diffusers.StableDiffusion3Pipeline
    where = str(typed_path(model) if typed_path(model).is_dir() else model)
    with named_when_not_whole(model, pipeline.__name__):
        found = pipeline.from_pretrained(where, **weights_in(dtype))
    found.set_progress_bar_config(disable=True)
    all_in(dtype, found.components.values())
    found.vae.float()
    return JointModel(found, typed_path(model).name)
