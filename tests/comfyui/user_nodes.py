"""Nodes for the tests of users, copied into the running ComfyUI: models that no file holds, other packs' patches."""

import os
from pathlib import Path

import comfy.model_patcher
import comfy.supported_models
import torch
from comfy.ldm.modules.attention import optimized_attention

CPU = torch.device("cpu")
SDXL = {  # its widths, heads, levels and conditioning; fewer blocks
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 2, 4],
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "num_heads": -1,
    "num_head_channels": 64,
    "context_dim": 2048,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
    "use_temporal_attention": False,
    "legacy": False,
}
FLUX = {
    "image_model": "flux",
    "in_channels": 4,
    "out_channels": 4,
    "vec_in_dim": 8,
    "context_in_dim": 8,
    "hidden_size": 32,
    "mlp_ratio": 1.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [4, 6, 6],
    "theta": 10,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": False,
    "txt_ids_dims": [],
}


class PalateProbeDenoiser:
    """A MODEL with random weights."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"what": (["sdxl", "flux"],)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "make", "test"

    def make(self, what):
        family, sizes = {"sdxl": (comfy.supported_models.SDXL, SDXL), "flux": (comfy.supported_models.Flux, FLUX)}[what]
        config = family(dict(sizes))
        config.set_inference_dtype(torch.bfloat16, None)
        model = config.get_model({}, "", device=CPU)
        pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02)
        for name, weight in model.diffusion_model.state_dict().items():
            norm = weight.ndim == 1 and name.endswith("weight")
            count = weight.numel()
            weight.copy_(torch.ones(()) if norm else pool.repeat(count // len(pool) + 1)[:count].view(weight.shape))
        return (comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU),)


class PalateProbeText:
    """Conditioning with random numbers."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"width": ("INT", {"max": 4096}), "seed": ("INT", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "make", "test"

    def make(self, width, seed):
        draw = torch.Generator().manual_seed(seed)
        pooled = torch.randn(1, 1280, generator=draw)
        return ([[torch.randn(1, 77, width, generator=draw), {"pooled_output": pooled}]],)


class PalateProbeOtherPack:
    """What other packs do to cross-attention: one replaces it, as IP-Adapters do; one splits rows into regions."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"model": ("MODEL",), "what": (["replace", "regions"],)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "test"

    def patch(self, model, what):
        model = model.clone()
        if what == "replace":
            for part, count in (("input", 12), ("middle", 1), ("output", 12)):
                for number in range(count):
                    model.set_model_attn2_replace(_with_a_picture, part, number)
        else:
            model.set_model_attn2_patch(lambda n, context, value, extra: (n.repeat(2, 1, 1), *_twice(context, value)))
            model.set_model_attn2_output_patch(lambda n, extra: 0.5 * n.chunk(2)[0] + 0.5 * n.chunk(2)[1])
        return (model,)


def _with_a_picture(q, k, v, extra):
    text = optimized_attention(q, k, v, extra["n_heads"])
    return text + 0.7 * optimized_attention(q, k[:, :4], v[:, :4].flip(1), extra["n_heads"])


def _twice(context, value):
    return torch.cat([context, 0.3 * context]), torch.cat([value, 0.3 * value])


class PalateProbePatches:
    """Saves what hangs in a MODEL, once `after` is there."""

    INPUT_TYPES = classmethod(
        lambda s: {"required": {"model": ("MODEL",), "after": ("MODEL",), "name": ("STRING", {})}}
    )
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    def save(self, model, after, name):
        found = {
            "wrappers": {kind: {key: len(each) for key, each in keys.items()} for kind, keys in model.wrappers.items()},
            "models": {key: len(each) for key, each in model.additional_models.items()},
            "options": sorted(model.model_options["transformer_options"]),
            "same denoiser": model.model is after.model,
        }
        torch.save(found, Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")
        return ()


NODE_CLASS_MAPPINGS = {
    each.__name__: each for each in (PalateProbeDenoiser, PalateProbeText, PalateProbeOtherPack, PalateProbePatches)
}
