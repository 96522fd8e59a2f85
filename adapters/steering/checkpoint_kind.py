"""What a single model file is, by the names and shapes of its tensors; no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import FileFormatError, SteeringError
from ..untrusted import require_short_header

__all__ = ["UNET", "Shapes", "checkpoint_family", "kind_of_weights", "read_shapes"]

Shapes = Mapping[str, tuple[int, ...]]
UNET = "model.diffusion_model."
_EXPECTED = "a single-file checkpoint (.safetensors) of Stable Diffusion 1.5 or XL"
_FIRST = f"{UNET}input_blocks.0.0.weight"
# Parts of tensor names that give a file away, the most telling first.
_SIGNS = (
    (("lora_up", "lora_down", "lora_A", "lora_B", "lora.up", "lora.down", "hada_w1", "lokr_w1"), "a LoRA"),
    (("control_model.", "controlnet_", "zero_convs"), "a ControlNet"),
    (("emb_params", "string_to_param"), "a textual inversion embedding"),
    (("double_blocks.", "single_transformer_blocks."), "a Flux model"),
    (("joint_blocks.",), "a Stable Diffusion 3 model"),
    (("image_proj.", "ip_adapter."), "an IP-Adapter"),
    (("vision_model.", "visual.", "text_model.", "text_projection"), "a CLIP or a text encoder alone"),
    (("first_stage_model.", "decoder.conv_in", "encoder.conv_in", "taesd_decoder"), "a VAE alone"),
    (("down_blocks.", "input_blocks."), "a denoiser alone, without text encoder and VAE"),
)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor name, from the file's header.

    Raises:
        SteeringError: it is no safetensors file, or cut off; it says what it looks like.
    """
    from safetensors import SafetensorError, safe_open

    try:
        require_short_header(path, _EXPECTED)
        with safe_open(str(path), framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except FileFormatError as error:
        raise SteeringError(str(error)) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise _refused(path, _looks_like(path, error)) from error


def checkpoint_family(path: Path, shapes: Shapes) -> str:
    """Whether a file holds Stable Diffusion 1.x ("sd15") or XL ("sdxl") whole.

    Raises:
        SteeringError: neither; it says what was found.
    """
    if _FIRST not in shapes:
        raise _refused(path, kind_of_weights(shapes))
    if shapes[_FIRST][1:2] != (4,):
        raise _refused(path, f"a model for inpainting or editing ({shapes[_FIRST][1]} channels go in)")
    if not any(name.startswith("first_stage_model.") for name in shapes):
        raise _refused(path, "a checkpoint without its VAE")
    if any(name.startswith("conditioner.embedders.1.model.") for name in shapes):
        if "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight" not in shapes:
            raise _refused(path, "an SDXL without its smaller text encoder")
        return "sdxl"
    if any(name.startswith("conditioner.embedders.0.model.") for name in shapes):
        raise _refused(path, "the refiner of SDXL")
    if "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight" in shapes:
        return "sd15"
    if any(name.startswith("cond_stage_model.model.") for name in shapes):
        raise _refused(path, "Stable Diffusion 2", "Give its diffusers folder.")
    raise _refused(path, "a checkpoint without a text encoder")


def kind_of_weights(shapes: Shapes) -> str:
    """What a file that is no whole model looks like, in words."""
    if set(shapes) and set(shapes) <= {"clip_l", "clip_g"}:
        return "a textual inversion embedding"
    for parts, what in _SIGNS:
        if any(part in name for name in shapes for part in parts):
            return what
    return f"tensors such as {min(shapes)!r}" if shapes else "no tensors at all"


def _looks_like(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return f"a file that can't be read ({error})"
    if not start:
        return "an empty file"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")):
        return "a pickle (.ckpt, .pt), which could run anything it likes; convert it to safetensors where you trust it"
    if start.startswith(b"GGUF"):
        return "a GGUF file"
    if start[8:9] == b"{":
        return "a safetensors file that is cut off or damaged; get it again"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")) or start[8:12] == b"WEBP":
        return "a picture"
    if b"\0" not in start:
        return "a text file"
    return "no safetensors file"


def _refused(
    path: Path, found: str, advice: str = "Give another, or a diffusers folder, or 'playground'."
) -> SteeringError:
    return SteeringError(f"Cannot load the model {path.name!r}: found {found}; expected {_EXPECTED}. {advice}")
