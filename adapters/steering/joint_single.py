"""SD3 and Flux from single files as diffusers' pipelines, without the hub and a part at a time.

Weights are read a tensor at a time and converted to the precision they are used in; float8's own scales are applied.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import SteeringError
from .architecture import write_tokenizer
from .joint import JointModel
from .joint_configuration import clip_of, scheduler_of, t5_of, transformer_of, vae_of
from .joint_files import JointFiles
from .joint_parts import Part
from .joint_reading import places_of, read_rows, require_floats, weights_of
from .joint_tokenizer import read_t5_tokenizer

__all__ = ["load_joint_files"]


def load_joint_files(files: JointFiles, dtype: torch.dtype, prepare: Callable[[Any], None] | None = None) -> JointModel:
    """Load the text encoders and the autoencoder onto the CPU; the denoiser follows when it is first asked for.

    Args:
        files: Of `joint_files`. dtype: Of the weights; the autoencoder's are float32.
        prepare: Done to the denoiser while it has no weights yet; its layers may hold what they load in their own way.

    Raises:
        SteeringError: a file lacks tensors, or holds them in a form that isn't known.
    """
    import diffusers
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    for part in files.parts:
        _named(part, partial(require_floats, part))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(scheduler_of(files.denoiser))
    with torch.device("meta"):  # what it will be; pipelines ask for its sizes
        empty = _class_of(files.denoiser).from_config(transformer_of(files.denoiser))
    parts: dict[str, Any] = {"transformer": empty, "scheduler": scheduler}
    parts["vae"] = _named(files.vae, lambda: _vae(files.vae, files.family))
    t5 = None if files.t5 is None else _named(files.t5, lambda: _t5(files.t5, dtype))
    words = None if files.tokenizer is None else read_t5_tokenizer(files.tokenizer)
    parts["tokenizer"] = _clip_tokenizer("<|endoftext|>")
    if files.clip_g is None:
        parts["text_encoder"] = _named(files.clip_l, lambda: _clip(files.clip_l, CLIPTextModel, dtype))
        pipeline = diffusers.FluxPipeline(**parts, text_encoder_2=t5, tokenizer_2=words)
    else:
        kind, large = CLIPTextModelWithProjection, files.clip_g
        parts["text_encoder"] = _named(files.clip_l, lambda: _clip(files.clip_l, kind, dtype))
        parts["text_encoder_2"] = _named(large, lambda: _clip(large, kind, dtype, True))
        parts["tokenizer_2"] = _clip_tokenizer("!")
        pipeline = diffusers.StableDiffusion3Pipeline(**parts, text_encoder_3=t5, tokenizer_3=words)
    pipeline.set_progress_bar_config(disable=True)
    read = partial(_named, files.denoiser, lambda: _denoiser(files.denoiser, dtype, prepare))
    return JointModel(pipeline, files.denoiser.path.stem, read)


def _denoiser(part: Part, dtype: torch.dtype, prepare: Callable[[Any], None] | None) -> Any:
    from safetensors import safe_open

    with torch.device("meta"):
        model = _class_of(part).from_config(transformer_of(part))
    if prepare is not None:
        prepare(model)
    places = places_of(part)
    with safe_open(str(part.path), framework="pt") as file:
        for name in places.shapes:  # one at a time, so that no layer waits for another to be held
            layer, _, last = name.rpartition(".")
            value = {last: places.read(file, name, dtype)}
            told = model.get_submodule(layer).load_state_dict(value, strict=False, assign=True)
            if told.unexpected_keys:
                raise KeyError(name)
    return _whole(model).eval()


def _class_of(denoiser: Part) -> Any:
    import diffusers

    return diffusers.SD3Transformer2DModel if denoiser.family == "sd3" else diffusers.FluxTransformer2DModel


def _vae(part: Part, family: str) -> Any:
    from diffusers import AutoencoderKL

    with tempfile.TemporaryDirectory(prefix="palate-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(vae_of(part, family)), encoding="utf-8")
        found = AutoencoderKL.from_single_file(_state(part, torch.float32), config=folder, local_files_only=True)
    return _whole(found).float().eval()


def _clip(part: Part, kind: Any, dtype: torch.dtype, large: bool = False) -> Any:
    from transformers import CLIPTextConfig

    state = {name: value for name, value in _state(part, dtype).items() if name.startswith("text_")}
    if not large:  # SD3's pooled vector of CLIP-L is not projected, in ComfyUI neither
        state.pop("text_projection.weight", None)
        if kind.__name__.endswith("Projection"):
            state["text_projection.weight"] = torch.eye(part.width, dtype=dtype)
    return _with_weights(kind, CLIPTextConfig(**clip_of(part, large)), state, dtype)


def _t5(part: Part | None, dtype: torch.dtype) -> Any:
    from transformers import T5Config, T5EncoderModel

    assert part is not None
    state = {name: value for name, value in _state(part, dtype).items() if name.startswith(("shared.", "encoder."))}
    return _with_weights(T5EncoderModel, T5Config(**t5_of(part)), state, dtype)


def _with_weights(kind: Any, config: Any, state: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """A text encoder of transformers, by the library's own names for what a file has."""
    precision = {"dtype" if hasattr(config, "dtype") else "torch_dtype": dtype}  # renamed in transformers 4.56
    model, told = kind.from_pretrained(None, config=config, state_dict=state, output_loading_info=True, **precision)
    if missing := sorted(told["missing_keys"]):
        raise ValueError(f"{missing[0]} is missing ({len(missing)} in all)")
    return model.to(dtype).eval()


def _state(part: Part, dtype: torch.dtype) -> dict[str, Tensor]:
    from safetensors import safe_open

    names = [name for name in weights_of(part) if not name.endswith("position_ids")]
    with safe_open(str(part.path), framework="pt") as file:
        return {name: read_rows(file, part, name).to(dtype, copy=True) for name in names}


def _clip_tokenizer(padding: str) -> Any:
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory(prefix="palate-") as folder:
        write_tokenizer(Path(folder), padding)
        return CLIPTokenizer.from_pretrained(folder)


def _whole(model: Any) -> Any:
    if gone := [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]:
        raise ValueError(f"{gone[0]} is missing ({len(gone)} in all)")
    return model


def _named(part: Part, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # the libraries raise many kinds for what isn't whole
        raise SteeringError(
            f"Cannot load {part.path.name!r}: {type(error).__name__}: {error}; expected all of {part.said}. "
            "Get the file again, or another."
        ) from error
