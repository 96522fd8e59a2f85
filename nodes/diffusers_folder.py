"""A diffusers folder of any size as ComfyUI's MODEL, CLIP and VAE.

ComfyUI's own loaders recognise the sizes of published models only. Here every size comes from the folder's configs,
so a small model loads as well as Stable Diffusion 1.x and 2.x. What comes out are the host's own classes: samplers,
LoRA loaders and memory management see nothing unusual.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch

from ..adapters.errors import FileFormatError
from .autoencoder import Autoencoder
from .diffusers_config import GROUPS, model_config, unet_config, unfit


def load_diffusers_folder(folder: Path) -> tuple[Any, Any, Any]:
    """Load a pipeline folder.

    Args:
        folder: A diffusers pipeline with unet/, vae/, text_encoder/, tokenizer/ and scheduler/; safetensors only.

    Returns:
        MODEL, CLIP and VAE, as ComfyUI's checkpoint loader gives them.

    Raises:
        FileFormatError: a part is missing, or uses something that ComfyUI's classes don't have.
    """
    return load_model(folder), load_clip(folder), load_vae(folder)


def load_model(folder: Path) -> Any:
    """Load unet/ and scheduler/ of a diffusers folder as a MODEL."""
    unet = _config(folder, "unet", "config.json")
    scheduler = _config(folder, "scheduler", "scheduler_config.json")
    weights = _weights(folder, "unet")
    scale = _config(folder, "vae", "config.json").get("scaling_factor", 0.18215)
    config = model_config(unet_config(unet, folder), scheduler, scale, folder)

    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    dtypes = list(config.supported_inference_dtypes)
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights),
        supported_dtypes=dtypes,
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    config.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, load_device, dtypes))
    model = comfy.model_base.BaseModel(config, model_type=config.prediction, device=offload_device)
    for module in model.diffusion_model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = unet.get("norm_num_groups", GROUPS)
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    _load(model.diffusion_model, {names.get(key, key): value for key, value in weights.items()}, folder / "unet")
    model.to(offload_device)
    return comfy.model_patcher.ModelPatcher(model, load_device=load_device, offload_device=offload_device)


def load_clip(folder: Path) -> Any:
    """Load text_encoder/ and tokenizer/ of a diffusers folder as a CLIP with one encoder, as SD1.5 has it."""
    config = _config(folder, "text_encoder", "config.json")
    weights = _weights(folder, "text_encoder")
    if config.get("vocab_size", 49408) != 49408:
        raise unfit(folder / "text_encoder", f"a vocabulary of {config['vocab_size']}", "CLIP's 49408 tokens")
    # transformers 5 may leave out the outer name.
    weights = {key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in weights.items()}
    weights = {key: value for key, value in weights.items() if not key.endswith("position_ids")}
    width = config["hidden_size"]
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "hidden_act")

    class Tokenizer(comfy.sd1_clip.SDTokenizer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(tokenizer_path=str(folder / "tokenizer"), embedding_size=width, **options)

    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data={"clip_l_tokenizer_class": Tokenizer},
        parameters=comfy.utils.calculate_parameters(weights),
        model_options={"clip_l_model_config": {name: config[name] for name in sizes if name in config}},
    )
    tower = clip.cond_stage_model.clip_l.transformer
    _load(tower.text_model, {key[len("text_model.") :]: value for key, value in weights.items()}, folder)
    # Not in the folder and never used for SD1.x; left alone it would be uninitialised memory.
    torch.nn.init.zeros_(tower.text_projection.weight)
    return clip


def load_vae(folder: Path) -> Any:
    """Load vae/ of a diffusers folder as a VAE."""
    config = _config(folder, "vae", "config.json")
    autoencoder = Autoencoder(config)
    _load(autoencoder, _weights(folder, "vae"), folder / "vae")
    latents, levels = config["latent_channels"], len(config["block_out_channels"])

    # The host's class takes its own autoencoder only: it starts with a small one of those, which is then replaced.
    layout = {"double_z": True, "z_channels": latents, "resolution": 64, "in_channels": 3, "out_ch": 3}
    layout |= {"ch": 32, "ch_mult": [1] * levels, "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    params = {"ddconfig": layout, "embed_dim": latents}
    vae = comfy.sd.VAE(sd=comfy.sd.AutoencoderKL(**params).state_dict(), config={"params": params})
    vae.first_stage_model = autoencoder.eval().to(vae.vae_dtype)
    patcher = type(vae.patcher)
    vae.patcher = patcher(autoencoder, load_device=vae.device, offload_device=vae.patcher.offload_device)
    vae.latent_channels = latents
    vae.downscale_ratio = vae.upscale_ratio = 2 ** (levels - 1)
    vae.output_channels = config["out_channels"]
    vae.size = None
    vae.model_size()
    return vae


def _config(folder: Path, part: str, name: str) -> dict[str, Any]:
    path = folder / part / name
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"Cannot load {folder.name}: {part}/{name} can't be read ({error}); expected a diffusers pipeline folder. "
            "Copy the whole folder again."
        ) from error
    if not isinstance(content, dict):
        raise unfit(path, type(content).__name__, "an object")
    return content


def _weights(folder: Path, part: str) -> dict[str, torch.Tensor]:
    names = ("diffusion_pytorch_model.safetensors", "model.safetensors")
    names += ("diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors")
    for name in names:
        if (folder / part / name).is_file():
            weights: dict[str, torch.Tensor] = comfy.utils.load_torch_file(str(folder / part / name), safe_load=True)
            return weights
    raise FileFormatError(
        f"Cannot load {folder.name}: no weights in {part}/; expected {names[0]} or {names[1]}. Copy the folder again."
    )


def _load(module: torch.nn.Module, weights: dict[str, torch.Tensor], where: Path) -> None:
    expected, found = set(module.state_dict()), set(weights)
    if missing := sorted(expected - found):
        raise unfit(where, f"no tensor {missing[0]} ({len(missing)} missing)", "all tensors of its config")
    if surplus := sorted(found - expected):
        raise unfit(where, f"an unknown tensor {surplus[0]} ({len(surplus)} in all)", "only tensors of its config")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise unfit(where, str(error).splitlines()[-1].strip(), "the shapes of its config") from error
