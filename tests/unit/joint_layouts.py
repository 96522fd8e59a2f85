"""Tensors of diffusers' SD3, Flux and autoencoder by the names and in the order of the original files.

Written down by hand, so that what reads such files is held against it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

Weights = Mapping[str, torch.Tensor]


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


def _blocks(state: Weights, start: str) -> list[int]:
    return sorted({int(name[len(start) + 1 :].split(".")[0]) for name in state if name.startswith(f"{start}.")})
