"""Nodes for the tests of users, copied into the running ComfyUI: models that no file holds, other packs' patches."""

import os
from pathlib import Path

import comfy.model_detection
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import folder_paths
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
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 10,
    "context_in_dim": 12,
    "hidden_size": 32,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 1,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": False,
    "txt_ids_dims": [],
}


CASCADE = {  # stage C, small; stage B is another class with the same parts
    "stable_cascade_stage": "c",
    "c_in": 16,
    "c_out": 16,
    "c_cond": 12,
    "c_hidden": [16, 32],
    "nhead": [2, 4],
    "blocks": [[1, 2], [2, 1]],
    "c_clip_text": 10,
    "c_clip_text_pooled": 10,
}
STAGE_B = {"stable_cascade_stage": "b", "c_hidden": [8] * 4, "nhead": [-1, -1, 2, 2], "blocks": [[1] * 4, [1] * 4],
           "block_repeat": [[1] * 4, [1] * 4], "c_cond": 8, "c_clip": 8}  # fmt: skip
SD3 = {
    "in_channels": 16,
    "depth": 2,
    "patch_size": 2,
    "input_size": None,
    "adm_in_channels": 10,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 12, "out_features": 128}},
    "pos_embed_scaling_factor": None,
    "pos_embed_max_size": 8,
    "num_patches": 64,
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
}
FAMILIES = {
    "sdxl": (comfy.supported_models.SDXL, SDXL, torch.bfloat16),
    "flux": (comfy.supported_models.Flux, FLUX, torch.float32),
    "sd3": (comfy.supported_models.SD3, SD3, torch.float32),
    "cascade": (comfy.supported_models.Stable_Cascade_C, CASCADE, torch.float32),
    "stage b": (comfy.supported_models.Stable_Cascade_B, STAGE_B, torch.float32),
}


class PalateProbeDenoiser:
    """A MODEL with random weights; those of a small one are saved under its name."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"what": (list(FAMILIES),)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "make", "test"

    def make(self, what):
        family, sizes, dtype = FAMILIES[what]
        config = family(dict(sizes))
        config.set_inference_dtype(dtype, None)
        model = config.get_model({}, "", device=CPU)
        size = 0.02 if dtype == torch.bfloat16 else 0.15  # small models are to do something in a few layers, too
        pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(size)
        for name, weight in model.diffusion_model.state_dict().items():
            norm = weight.ndim == 1 and name.endswith("weight")
            count = weight.numel()
            weight.copy_(torch.ones(()) if norm else pool.repeat(count // len(pool) + 1)[:count].view(weight.shape))
        if dtype == torch.float32:
            kept = {name: weight.clone() for name, weight in model.diffusion_model.state_dict().items()}
            torch.save(kept, Path(os.environ["PALATE_PROBES"]) / f"weights of {what}.pt")
        return (comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU),)


class PalateProbeFlux:
    """A small Flux of one head from a file in its original layout; ComfyUI itself knows Flux with 24 heads alone."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"file": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "load", "test"

    def load(self, file):
        weights = comfy.utils.load_torch_file(folder_paths.get_full_path_or_raise("diffusion_models", file))
        found = comfy.model_detection.detect_unet_config(weights, "")
        config = comfy.supported_models.Flux({**found, "num_heads": 1})
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "", device=CPU)
        model.diffusion_model.load_state_dict(weights, strict=True)
        return (comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU),)


class PalateProbeText:
    """Conditioning with random numbers."""

    INPUT_TYPES = classmethod(
        lambda s: {
            "required": {"width": ("INT", {"max": 4096}), "seed": ("INT", {})},
            "optional": {"pooled": ("INT", {"default": 1280})},
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "make", "test"

    def make(self, width, seed, pooled=1280):
        draw = torch.Generator().manual_seed(seed)
        pooled = torch.randn(1, pooled, generator=draw)
        return ([[torch.randn(1, 77, width, generator=draw), {"pooled_output": pooled}]],)


class PalateProbeOtherPack:
    """What other packs do to cross-attention: one replaces it, as IP-Adapters do; one splits rows into regions.

    And what they do to a DiT: one is around its first block; one compiles the model, as far as its key says.
    """

    INPUT_TYPES = classmethod(
        lambda s: {"required": {"model": ("MODEL",), "what": (["replace", "regions", "blocks", "compiled"],)}}
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "test"

    def patch(self, model, what):
        model = model.clone()
        if what == "replace":
            for part, count in (("input", 12), ("middle", 1), ("output", 12)):
                for number in range(count):
                    model.set_model_attn2_replace(_with_a_picture, part, number)
        elif what == "blocks":
            model.set_model_patch_replace(_half_as_much, "dit", "double_block", 0)
        elif what == "compiled":
            model.add_wrapper_with_key(
                "apply_model", "torch.compile", lambda executor, *given, **more: executor(*given, **more)
            )
        else:
            model.set_model_attn2_patch(lambda n, context, value, extra: (n.repeat(2, 1, 1), *_twice(context, value)))
            model.set_model_attn2_output_patch(lambda n, extra: 0.5 * n.chunk(2)[0] + 0.5 * n.chunk(2)[1])
        return (model,)


def _with_a_picture(q, k, v, extra):
    text = optimized_attention(q, k, v, extra["n_heads"])
    return text + 0.7 * optimized_attention(q, k[:, :4], v[:, :4].flip(1), extra["n_heads"])


def _half_as_much(given, more):
    out = more["original_block"]({**given, "img": given["img"].clone()})
    return {**out, "img": 0.5 * given["img"] + 0.5 * out["img"]}


def _twice(context, value):
    return torch.cat([context, 0.3 * context]), torch.cat([value, 0.3 * value])


class PictureAttention:
    """What sits in the place of a cross-attention, with the call by which IP-Adapter packs put a second one in."""

    def __init__(self, strength):
        self.strengths = [strength]

    def add(self, strength):
        self.strengths.append(strength)

    def __call__(self, q, k, v, extra):
        out = optimized_attention(q, k, v, extra["n_heads"])
        for strength in self.strengths:
            out = out + strength * optimized_attention(q, k[:, :4], v[:, :4].flip(1), extra["n_heads"])
        return out


class PalateProbePicture:
    """An IP-Adapter as ComfyUI_IPAdapter_plus applies it: written into the options, added to what is there."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"model": ("MODEL",), "strength": ("FLOAT", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "test"

    def patch(self, model, strength):
        model = model.clone()
        options = model.model_options["transformer_options"] = dict(model.model_options["transformer_options"])
        replace = options["patches_replace"] = dict(options.get("patches_replace", {}))
        mine = replace["attn2"] = dict(replace.get("attn2", {}))
        for key in [("input", number) for number in range(12)] + [("output", number) for number in range(12)]:
            if key in mine:
                mine[key].add(strength)
            else:
                mine[key] = PictureAttention(strength)
        return (model,)


class PalateProbeCalls:
    """A MODEL that keeps, under a name, what its denoiser was last called with and what it answered."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"model": ("MODEL",), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "watch", "test"

    def watch(self, model, name):
        def keep(module, given, more, out):
            found = {key: value for key, value in more.items() if torch.is_tensor(value)}
            found |= {"x": given[0], "time": given[1], "out": out}
            found = {key: value.clone() for key, value in found.items()}
            found["rows"] = list(more["transformer_options"]["cond_or_uncond"])
            torch.save(found, Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")

        def wrapper(executor, *args, **more):
            hook = executor.class_obj.diffusion_model.register_forward_hook(keep, with_kwargs=True)
            try:
                return executor(*args, **more)
            finally:
                hook.remove()

        model = model.clone()
        model.add_wrapper_with_key("apply_model", "palate_probe", wrapper)
        return (model,)


class PalateProbeHooks:
    """How many hooks of PyTorch are left in a MODEL's denoiser, once `after` is there."""

    INPUT_TYPES = classmethod(
        lambda s: {"required": {"model": ("MODEL",), "after": ("LATENT",), "name": ("STRING", {})}}
    )
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    def save(self, model, after, name):
        modules = list(model.model.diffusion_model.modules())
        count = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
        torch.save(count, Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")
        return ()


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
    each.__name__: each
    for each in (
        PalateProbeDenoiser,
        PalateProbeFlux,
        PalateProbeText,
        PalateProbeOtherPack,
        PalateProbePicture,
        PalateProbeCalls,
        PalateProbeHooks,
        PalateProbePatches,
    )
}
