"""Small random SD3 and Flux, as a diffusers folder and as single files in the layout that ComfyUI's users have.

Names and orders of the single files are written down here by hand, so that what reads them is held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from palate.adapters.steering.architecture import write_tokenizer
from safetensors.torch import save_file

Weights = Mapping[str, torch.Tensor]
CLIP_L, CLIP_G, PROJECTED, T5 = 64, 128, 96, 192
WORDS = ("<pad>", "</s>", "<unk>", "▁", "▁red", "▁star", "▁a", *"abcdefghijklmnopqrstuvwxyz")


def write_folder(kind: str, folder: Path) -> Path:
    """A diffusers folder of "sd3", "sd35" (as its medium), "flux" or "flux-schnell"."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = _flux(kind, folder) if kind.startswith("flux") else _sd3(kind, folder)
        for parameter in made.transformer.parameters():  # gates and the last layer start at zero
            parameter.data = parameter.data + 0.05 * torch.randn(parameter.shape)
    made.save_pretrained(folder)
    return folder


def write_all_in_one(pipeline, file: Path, dtype: torch.dtype = torch.float32) -> Path:
    """One file of all parts."""
    found = {}
    flux = type(pipeline).__name__.startswith("Flux")
    starts = {"denoiser": "model.diffusion_model.", "clip_l": "text_encoders.clip_l.transformer.",
              "clip_g": "text_encoders.clip_g.transformer.", "t5": "text_encoders.t5xxl.transformer.",
              "vae": "vae." if flux else "first_stage_model."}  # fmt: skip
    for part, weights in parts_of(pipeline).items():
        found |= {starts[part] + name: value.to(dtype) for name, value in weights.items()}
    save_file(found, file)
    return file


def write_split(pipeline, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Path]:
    """A file a part, by the names that releases have."""
    flux = type(pipeline).__name__.startswith("Flux")
    names = {"denoiser": "unet", "clip_l": "clip_l", "clip_g": "clip_g", "t5": "t5xxl_fp16",
             "vae": "ae" if flux else "sd3_vae"}  # fmt: skip
    found = {}
    folder.mkdir(exist_ok=True)
    for part, weights in parts_of(pipeline).items():
        found[part] = folder / f"{names[part]}.safetensors"
        save_file({name: value.to(dtype).contiguous() for name, value in weights.items()}, found[part])
    return found


def write_t5_tokenizer(file: Path) -> Path:
    """T5's kind of tokenizer, of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.Unigram([(word, 0.0 if n < 3 else -2.0 - n / 9) for n, word in enumerate(WORDS)], 2))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    file.parent.mkdir(parents=True, exist_ok=True)
    words.save(str(file))
    return file


def parts_of(pipeline) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each part by its original names."""
    flux = type(pipeline).__name__.startswith("Flux")
    state = pipeline.transformer.state_dict()
    found = {"denoiser": flux_by_original_names(state) if flux else sd3_by_original_names(state)}
    found["clip_l"] = _clip_names(pipeline.text_encoder.state_dict())
    if flux:
        t5 = pipeline.text_encoder_2
    else:
        found["clip_l"].pop("text_projection.weight")
        found["clip_g"], t5 = _clip_names(pipeline.text_encoder_2.state_dict()), pipeline.text_encoder_3
    if t5 is not None:
        found["t5"] = {name: value.clone() for name, value in t5.state_dict().items()}
    found["vae"] = vae_by_original_names(pipeline.vae.state_dict())
    return found


def flux_by_original_names(state: Weights) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    ends = {"time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
            "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
            "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
            "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
            "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out"}  # fmt: skip
    for new, old in ends.items():
        found |= {f"{new}.{kind}": state[f"{old}.{kind}"] for kind in ("weight", "bias") if f"{old}.{kind}" in state}
    for kind in ("weight", "bias"):
        scale, shift = state[f"norm_out.linear.{kind}"].chunk(2)
        found[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    for block in _blocks(state, "transformer_blocks"):
        old, new = f"transformer_blocks.{block}", f"double_blocks.{block}"
        for kind in ("weight", "bias"):
            for one, other in (("img_mod.lin", "norm1.linear"), ("txt_mod.lin", "norm1_context.linear"),
                               ("img_attn.proj", "attn.to_out.0"), ("txt_attn.proj", "attn.to_add_out"),
                               ("img_mlp.0", "ff.net.0.proj"), ("img_mlp.2", "ff.net.2"),
                               ("txt_mlp.0", "ff_context.net.0.proj"), ("txt_mlp.2", "ff_context.net.2")):  # fmt: skip
                found[f"{new}.{one}.{kind}"] = state[f"{old}.{other}.{kind}"]
            for side, names in (("img", ("to_q", "to_k", "to_v")), ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"))):
                found[f"{new}.{side}_attn.qkv.{kind}"] = torch.cat([state[f"{old}.attn.{n}.{kind}"] for n in names])
        norms = (("img_attn.norm.query", "norm_q"), ("img_attn.norm.key", "norm_k"),
                 ("txt_attn.norm.query", "norm_added_q"), ("txt_attn.norm.key", "norm_added_k"))  # fmt: skip
        for one, other in norms:
            found[f"{new}.{one}_norm.scale"] = state[f"{old}.attn.{other}.weight"]
    for block in _blocks(state, "single_transformer_blocks"):
        old, new = f"single_transformer_blocks.{block}", f"single_blocks.{block}"
        for kind in ("weight", "bias"):
            whole = [state[f"{old}.{name}.{kind}"] for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
            found[f"{new}.linear1.{kind}"] = torch.cat(whole)
            found[f"{new}.linear2.{kind}"] = state[f"{old}.proj_out.{kind}"]
            found[f"{new}.modulation.lin.{kind}"] = state[f"{old}.norm.linear.{kind}"]
        found[f"{new}.norm.query_norm.scale"] = state[f"{old}.attn.norm_q.weight"]
        found[f"{new}.norm.key_norm.scale"] = state[f"{old}.attn.norm_k.weight"]
    assert sum(value.numel() for value in found.values()) == sum(value.numel() for value in state.values())
    return found


def sd3_by_original_names(state: Weights) -> dict[str, torch.Tensor]:
    found = {"pos_embed": state["pos_embed.pos_embed"]}
    for kind in ("weight", "bias"):
        for new, old in (("x_embedder.proj", "pos_embed.proj"), ("context_embedder", "context_embedder"),
                         ("t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
                         ("t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
                         ("y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"),
                         ("y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"),
                         ("final_layer.linear", "proj_out")):  # fmt: skip
            found[f"{new}.{kind}"] = state[f"{old}.{kind}"]
        scale, shift = state[f"norm_out.linear.{kind}"].chunk(2)
        found[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    blocks = _blocks(state, "transformer_blocks")
    for block in blocks:
        last = block == blocks[-1]
        old, new = f"transformer_blocks.{block}", f"joint_blocks.{block}"
        attentions = [("x_block.attn", "attn", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k")),
                      ("context_block.attn", "attn", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out",
                       ("norm_added_q", "norm_added_k"))]  # fmt: skip
        if f"{old}.attn2.to_q.weight" in state:
            attentions.append(("x_block.attn2", "attn2", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k")))
        for one, other, names, out, norms in attentions:
            for kind in ("weight", "bias"):
                found[f"{new}.{one}.qkv.{kind}"] = torch.cat([state[f"{old}.{other}.{n}.{kind}"] for n in names])
                if f"{old}.{other}.{out}.{kind}" in state:
                    found[f"{new}.{one}.proj.{kind}"] = state[f"{old}.{other}.{out}.{kind}"]
            for name, norm in zip(("ln_q", "ln_k"), norms, strict=True):
                if f"{old}.{other}.{norm}.weight" in state:
                    found[f"{new}.{one}.{name}.weight"] = state[f"{old}.{other}.{norm}.weight"]
        for kind in ("weight", "bias"):
            found[f"{new}.x_block.adaLN_modulation.1.{kind}"] = state[f"{old}.norm1.linear.{kind}"]
            told = state[f"{old}.norm1_context.linear.{kind}"]
            found[f"{new}.context_block.adaLN_modulation.1.{kind}"] = (
                torch.cat(list(reversed(told.chunk(2)))) if last else told
            )
            for side, ff in (("x_block", "ff"), ("context_block", "ff_context")):
                if last and side == "context_block":
                    continue
                found[f"{new}.{side}.mlp.fc1.{kind}"] = state[f"{old}.{ff}.net.0.proj.{kind}"]
                found[f"{new}.{side}.mlp.fc2.{kind}"] = state[f"{old}.{ff}.net.2.{kind}"]
    assert sum(value.numel() for value in found.values()) == sum(value.numel() for value in state.values())
    return found


def vae_by_original_names(state: Weights) -> dict[str, torch.Tensor]:
    found = {}
    levels = len(_blocks(state, "encoder.down_blocks"))
    for name, value in state.items():
        parts, new = name.split("."), name
        if ".down_blocks." in name:
            what = f"block.{parts[4]}" if parts[3] == "resnets" else "downsample"
            new = f"encoder.down.{parts[2]}.{what}.{'.'.join(parts[5:])}"
        elif ".up_blocks." in name:
            what = f"block.{parts[4]}" if parts[3] == "resnets" else "upsample"
            new = f"decoder.up.{levels - 1 - int(parts[2])}.{what}.{'.'.join(parts[5:])}"
        elif ".mid_block.resnets." in name:
            new = f"{parts[0]}.mid.block_{int(parts[3]) + 1}.{'.'.join(parts[4:])}"
        elif ".mid_block.attentions." in name:
            what = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}[parts[4]]
            new = f"{parts[0]}.mid.attn_1.{what}.{parts[-1]}"
            value = value[..., None, None] if what != "norm" and parts[-1] == "weight" else value
        new = new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        found[new] = value
    return found


def _clip_names(state: Weights) -> dict[str, torch.Tensor]:
    return {name if name.startswith("text_") else f"text_model.{name}": value for name, value in state.items()}


def _blocks(state: Weights, start: str) -> list[int]:
    return sorted({int(name[len(start) + 1 :].split(".")[0]) for name in state if name.startswith(f"{start}.")})


def _clip(width: int, projected: int | None, act: str):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=width // 64,
        projection_dim=projected or width, bos_token_id=49406, eos_token_id=49407, pad_token_id=1, hidden_act=act,
    )  # fmt: skip
    model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()
    if projected == width:  # SD3's CLIP-L: nothing is projected
        model.text_projection.weight.data.copy_(torch.eye(width))
    return model


def _words(folder: Path, padding: str):
    from transformers import CLIPTokenizer

    write_tokenizer(folder, padding)
    return CLIPTokenizer.from_pretrained(folder)


def _t5(folder: Path):
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32128, d_model=T5, d_kv=16, d_ff=32, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
    )
    file = write_t5_tokenizer(folder / "tokenizer.json")
    words = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    return T5EncoderModel(config).eval(), words


def _vae(scale: float, shift: float):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, sample_size=32, latent_channels=16,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, scaling_factor=scale, shift_factor=shift,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def _sd3(kind: str, folder: Path):
    import diffusers

    beside = folder.with_name(f"{folder.name} words")
    norms = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)} if kind == "sd35" else {}
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=128, in_channels=16, num_layers=2, attention_head_dim=64, num_attention_heads=2, out_channels=16,
        joint_attention_dim=T5, caption_projection_dim=128, pooled_projection_dim=CLIP_L + PROJECTED,
        pos_embed_max_size=16, **norms,
    )  # fmt: skip
    t5, t5_words = _t5(beside)
    return diffusers.StableDiffusion3Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), _vae(1.5305, 0.0609),
        _clip(CLIP_L, CLIP_L, "quick_gelu"), _words(beside / "1", "<|endoftext|>"), _clip(CLIP_G, PROJECTED, "gelu"),
        _words(beside / "2", "!"), t5, t5_words,
    )  # fmt: skip


def _flux(kind: str, folder: Path):
    import diffusers

    beside = folder.with_name(f"{folder.name} words")
    dev = kind == "flux"
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=2, num_single_layers=1, attention_head_dim=128, num_attention_heads=1,
        joint_attention_dim=T5, pooled_projection_dim=CLIP_L, guidance_embeds=dev,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev)
    t5, t5_words = _t5(beside)
    return diffusers.FluxPipeline(
        scheduler, _vae(0.3611, 0.1159), _clip(CLIP_L, None, "quick_gelu"), _words(beside / "1", "<|endoftext|>"), t5,
        t5_words, transformer,
    )  # fmt: skip
