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

# diffusers' name -> ComfyUI's; ComfyUI calls "linear" what is linear in the square root of beta.
_SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear", "squaredcos_cap_v2": "squaredcos_cap_v2"}
_PREDICTIONS = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}
_GROUPS = 32  # of every GroupNorm when ComfyUI builds a UNet


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
    config = _model_config(unet_config(unet, folder), scheduler, scale, folder)

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
            module.num_groups = unet.get("norm_num_groups", _GROUPS)
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    _load(model.diffusion_model, {names.get(key, key): value for key, value in weights.items()}, folder / "unet")
    model.to(offload_device)
    return comfy.model_patcher.ModelPatcher(model, load_device=load_device, offload_device=offload_device)


def load_clip(folder: Path) -> Any:
    """Load text_encoder/ and tokenizer/ of a diffusers folder as a CLIP with one encoder, as SD1.5 has it."""
    config = _config(folder, "text_encoder", "config.json")
    weights = _weights(folder, "text_encoder")
    if config.get("vocab_size", 49408) != 49408:
        raise _unfit(folder / "text_encoder", f"a vocabulary of {config['vocab_size']}", "CLIP's 49408 tokens")
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


def unet_config(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Translate the config of a UNet2DConditionModel into the arguments of ComfyUI's UNetModel."""
    channels = config["block_out_channels"]
    levels = len(channels)
    if any(width % channels[0] or width % _GROUPS for width in channels):
        raise _unfit(folder / "unet", f"channels {channels}", f"multiples of the first and of {_GROUPS}")
    for name in ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        if config.get(name) is not None:
            raise _unfit(folder / "unet", f"{name} = {config[name]!r}", "none (SD1.x and SD2.x have none)")
    known = {"CrossAttnDownBlock2D": True, "DownBlock2D": False, "CrossAttnUpBlock2D": True, "UpBlock2D": False}
    blocks = [*config["down_block_types"], *config["up_block_types"]]
    if strange := sorted(set(blocks) - set(known)):
        raise _unfit(folder / "unet", ", ".join(strange), "CrossAttn or plain Down and Up blocks")

    layers = _per_level(config["layers_per_block"], levels)
    depth = _per_level(config.get("transformer_layers_per_block", 1), levels)
    down = [depth[level] * known[name] for level, name in enumerate(config["down_block_types"])]
    up = [depth[level] * known[name] for level, name in enumerate(reversed(config["up_block_types"]))]
    heads = _per_level(config.get("num_attention_heads") or config["attention_head_dim"], levels)
    widths = {width // count for width, count in zip(channels, heads, strict=True)}
    if len(set(heads)) > 1 and len(widths) > 1:
        raise _unfit(folder / "unet", f"heads {heads}", "one number of heads, or one width of a head")
    one_count = len(set(heads)) == 1
    return {
        "image_size": 32,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": channels[0],
        "channel_mult": [width // channels[0] for width in channels],
        "num_res_blocks": layers,
        "transformer_depth": [down[level] for level in range(levels) for _ in range(layers[level])],
        "transformer_depth_output": [up[level] for level in range(levels) for _ in range(layers[level] + 1)],
        "transformer_depth_middle": depth[-1] if config.get("mid_block_type", "UNetMidBlock2DCrossAttn") else -2,
        "num_heads": heads[0] if one_count else -1,
        "num_head_channels": -1 if one_count else widths.pop(),
        "context_dim": config["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
    }


def _model_config(unet: dict[str, Any], scheduler: dict[str, Any], scale: float, folder: Path) -> Any:
    """A model config as ComfyUI's detection would have made it, had it known this model."""
    schedule = _SCHEDULES.get(scheduler.get("beta_schedule", "linear"))
    prediction = _PREDICTIONS.get(scheduler.get("prediction_type", "epsilon"))
    if schedule is None or prediction is None:
        found = f"{scheduler.get('beta_schedule')} with {scheduler.get('prediction_type')}"
        raise _unfit(folder / "scheduler", found, f"{', '.join(_SCHEDULES)} with {', '.join(_PREDICTIONS)}")

    class Latents(comfy.latent_formats.SD15):  # type: ignore[misc]
        latent_channels = unet["in_channels"]

        def __init__(self) -> None:
            super().__init__(scale)
            self.taesd_decoder_name = None
            if self.latent_channels != 4:
                self.latent_rgb_factors = None

    class Config(comfy.supported_models_base.BASE):  # type: ignore[misc]
        unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - the host's class attribute
        latent_format = Latents
        sampling_settings = {  # noqa: RUF012
            "beta_schedule": schedule,
            "linear_start": scheduler.get("beta_start", 0.0001),
            "linear_end": scheduler.get("beta_end", 0.02),
            "timesteps": scheduler.get("num_train_timesteps", 1000),
            "zsnr": scheduler.get("rescale_betas_zero_snr", False),
        }
        prediction: Any = None

    config = Config(unet)
    config.prediction = prediction
    return config


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
        raise _unfit(path, type(content).__name__, "an object")
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


def _per_level(value: int | list[int], levels: int) -> list[int]:
    return [value] * levels if isinstance(value, int) else list(value)


def _load(module: torch.nn.Module, weights: dict[str, torch.Tensor], where: Path) -> None:
    expected, found = set(module.state_dict()), set(weights)
    if missing := sorted(expected - found):
        raise _unfit(where, f"no tensor {missing[0]} ({len(missing)} missing)", "all tensors of its config")
    if surplus := sorted(found - expected):
        raise _unfit(where, f"an unknown tensor {surplus[0]} ({len(surplus)} in all)", "only tensors of its config")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise _unfit(where, str(error).splitlines()[-1].strip(), "the shapes of its config") from error


def _unfit(where: Path, found: str, expected: str) -> FileFormatError:
    return FileFormatError(
        f"Cannot load {where.parent.name}/{where.name} into ComfyUI: found {found}; expected {expected}. "
        "Use ComfyUI's own loaders for this model."
    )
