"""A user in Stable Cascade's stage C, SD3 and Flux as ComfyUI builds them: the same as in diffusers, row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import Graph, node
from palate.adapters.files import save_ppd, save_user
from palate.adapters.ppd.cascade import cascade_layers, use_user_in_cascade
from palate.adapters.ppd.dit import dit_layers, use_user_in_dit
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User
from user_graphs import apply, draw_with, drawn, random_ppd, random_user

KINDS = ("cascade", "sd3", "flux")
TEXT, POOLED = {"cascade": 10, "sd3": 12, "flux": 12}, 10
STRENGTH = 0.7
Call = dict[str, Any]


def in_diffusers(kind: str) -> Any:
    """The model of the same sizes in diffusers, without weights."""
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, StableCascadeUNet

    with torch.device("meta"):
        if kind == "flux":
            return FluxTransformer2DModel(
                in_channels=64, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                joint_attention_dim=12, pooled_projection_dim=POOLED, axes_dims_rope=(4, 6, 6),
            )  # fmt: skip
        if kind == "sd3":
            return SD3Transformer2DModel(
                sample_size=8, in_channels=16, num_layers=2, attention_head_dim=64, num_attention_heads=2,
                joint_attention_dim=12, caption_projection_dim=128, pooled_projection_dim=POOLED, out_channels=16,
                pos_embed_max_size=8, qk_norm="rms_norm", dual_attention_layers=(0,),
            )  # fmt: skip
        return StableCascadeUNet(
            in_channels=16, conditioning_dim=12, block_out_channels=(16, 32), num_attention_heads=(2, 4),
            down_num_layers_per_block=(1, 2), up_num_layers_per_block=(2, 1), clip_text_in_channels=10,
            clip_text_pooled_in_channels=POOLED, clip_image_in_channels=768, clip_seq=4, switch_level=(False,),
            dropout=(0.0, 0.0),
        )  # fmt: skip


def filled(host: Host, kind: str) -> Any:
    """The same with the weights of ComfyUI's."""
    from diffusers.loaders import single_file_utils as convert

    weights = host.probe(f"weights of {kind}")
    model = in_diffusers(kind)
    if kind == "flux":
        weights = flux_by_diffusers_names(weights)
    elif kind == "sd3":
        weights = convert.convert_sd3_transformer_checkpoint_to_diffusers(weights)
    else:
        places = ((".attn.to_", ".to_"), (".attn.out_proj", ".to_out.0"))
        weights = {_renamed(name, places): weight for name, weight in weights.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


FLUX = (
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("txt_in", "context_embedder"),
    ("img_in", "x_embedder"),
    ("double_blocks", "transformer_blocks"),
    ("single_blocks", "single_transformer_blocks"),
    ("img_mod.lin", "norm1.linear"),
    ("txt_mod.lin", "norm1_context.linear"),
    ("modulation.lin", "norm.linear"),
    ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
    (".norm.query_norm.scale", ".attn.norm_q.weight"),
    (".norm.key_norm.scale", ".attn.norm_k.weight"),
    ("img_attn.proj", "attn.to_out.0"),
    ("txt_attn.proj", "attn.to_add_out"),
    ("img_mlp.0", "ff.net.0.proj"),
    ("img_mlp.2", "ff.net.2"),
    ("txt_mlp.0", "ff_context.net.0.proj"),
    ("txt_mlp.2", "ff_context.net.2"),
    ("linear2", "proj_out"),
    ("final_layer.linear", "proj_out"),
    ("final_layer.adaLN_modulation.1", "norm_out.linear"),
)
SPLIT = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}


def flux_by_diffusers_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' own converter knows one size only, that of Flux itself."""
    found = {}
    for name, weight in weights.items():
        renamed = _renamed(name, FLUX)
        inside = next((part for part in SPLIT if part in name), None)
        if inside is not None:
            sizes = [32] * 3 + ([weight.shape[0] - 96] if inside == "linear1" else [])
            for part, piece in zip(SPLIT[inside], weight.split(sizes), strict=True):
                found[renamed.replace(inside, part)] = piece
        elif "norm_out.linear" in renamed:  # shift and scale change places
            found[renamed] = torch.cat(weight.chunk(2)[::-1])
        else:
            found[renamed] = weight
    return found


def _renamed(name: str, places: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in places:
        name = name.replace(theirs, ours)
    return name


def by_hand(kind: str, model: Any, call: Call, rows: slice) -> torch.Tensor:
    """What diffusers' model answers to some rows of what ComfyUI's was called with."""
    given = {name: value[rows] for name, value in call.items() if torch.is_tensor(value)}
    if kind == "cascade":
        return model(
            given["x"], given["time"], clip_text_pooled=given["clip_text_pooled"][:, None],
            clip_text=given["clip_text"], clip_img=given["clip_img"],
        ).sample  # fmt: skip
    if kind == "sd3":
        return model(given["x"], given["context"], given["y"], given["time"]).sample
    packed = torch.nn.functional.pixel_unshuffle(given["x"], 2).flatten(2).transpose(1, 2)
    side = given["x"].shape[-1] // 2
    places = torch.cartesian_prod(torch.arange(1), torch.arange(side), torch.arange(side)).float()
    out = model(
        packed, given["context"], given["y"], given["time"], places, torch.zeros(given["context"].shape[1], 3)
    ).sample
    return torch.nn.functional.pixel_shuffle(out.transpose(1, 2).unflatten(2, (side, side)), 2)


def people(host: Host, kind: str) -> tuple[Graph, PPD, dict[str, User]]:
    """A model, a PPD for it, and two users, the second with a negative half."""
    model = in_diffusers(kind)
    layers = cascade_layers(model) if kind == "cascade" else dit_layers(model)
    ppd = random_ppd(layers, 12, "cascade" if kind == "cascade" else "custom", seed=3)
    for value in ppd.attention.values:
        value.weight.data.mul_(8)
    save_ppd(ppd, host.home / "ppd" / f"for {kind}.safetensors")
    users = {name: random_user(ppd, seed, name == "ben", name) for seed, name in enumerate(("ann", "ben"))}
    graph = {
        "load": node("PalateProbeDenoiser", what=kind),
        "ppd": node("PalateLoadPPD", file=f"palate_ppd/for {kind}.safetensors"),
        "text": node("PalateProbeText", width=TEXT[kind], seed=1, pooled=POOLED),
        "no text": node("PalateProbeText", width=TEXT[kind], seed=2, pooled=POOLED),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=3),
    }
    for name, user in users.items():
        save_user(user, host.home / "users" / f"{kind} {name}.safetensors")
        graph[name] = node("PalateLoadUser", file=f"{kind} {name}.safetensors", ppd=["ppd", 0])
    graph["both"] = node("PalateBatchUsers", user_1=["ann", 0], user_2=["ben", 0])
    return graph, ppd, users


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_what_diffusers_makes_of_it(host: Host, kind: str) -> None:
    graph, ppd, users = people(host, kind)
    graph["watched"] = node("PalateProbeCalls", name=f"call of {kind}",
                            model=apply(graph, "applied", user="both", strength=STRENGTH))  # fmt: skip
    draw_with(graph, f"{kind} user", ["watched", 0], steps=1)
    host.run(graph)
    call, model = host.probe(f"call of {kind}"), filled(host, kind)
    use: Callable[..., Any] = use_user_in_cascade if kind == "cascade" else use_user_in_dit
    assert sorted(call["rows"]) == [0, 1] and len(call["out"]) == 6
    for row in range(6):
        user: User | None = users[("ann", "ben", "ann")[row % 3]]
        if call["rows"][row // 3] == 1:
            user = User(user.negative, ppd.identity) if user.negative is not None else None
        here = slice(row, row + 1)
        plain = by_hand(kind, model, call, here)
        with use(model, ppd, user, STRENGTH, guidance=False):
            wanted = by_hand(kind, model, call, here)
        torch.testing.assert_close(call["out"][here], wanted, atol=2e-4, rtol=2e-4)
        assert user is None or (plain - wanted).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_users_compose_with_others_and_leave_nothing(host: Host, kind: str) -> None:
    graph, _, _ = people(host, kind)
    models = {
        "plain": ["load", 0],
        "off": apply(graph, "off", user="ann", strength=0.0),
        "ann": apply(graph, "for ann", user="ann"),
        "part": apply(graph, "in part", user="ann", start_percent=0.4, end_percent=0.5),
        "never": apply(graph, "for no step", user="ann", start_percent=1.0, end_percent=1.0),
    }
    apply(graph, "most", user="ann", strength=0.6)
    models["parts"] = apply(graph, "rest", ["most", 0], user="ann", strength=0.4)
    models["ann then ben"] = apply(graph, "ben last", ["for ann", 0], user="ben")
    apply(graph, "ben first", user="ben")
    models["ben then ann"] = apply(graph, "ann last", ["ben first", 0], user="ann")
    if kind != "cascade":
        graph["around"] = node("PalateProbeOtherPack", model=["load", 0], what="blocks")
        models["others first"] = apply(graph, "ann after", ["around", 0], user="ann")
        graph["later"] = node("PalateProbeOtherPack", model=["for ann", 0], what="blocks")
        models["others last"] = ["later", 0]
    for name, model in models.items():
        draw_with(graph, f"{kind} {name}", model)
    draw_with(graph, f"{kind} again")
    graph["hooks"] = node("PalateProbeHooks", model=["load", 0], after=[f"sample {kind} ann", 0], name="hooks")
    names = (*models, "again")
    found = dict(zip(names, drawn(host, graph, *(f"{kind} {name}" for name in names)), strict=True))
    assert all(torch.equal(found["plain"], found[name]) for name in ("off", "never", "again"))
    assert host.probe("hooks") == 0
    torch.testing.assert_close(found["ann"], found["parts"], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found["ann then ben"], found["ben then ann"], atol=1e-3, rtol=1e-3)
    for one, other in (("ann", "plain"), ("part", "plain"), ("part", "ann"), ("ann then ben", "ann")):
        assert not torch.allclose(found[one], found[other], atol=1e-2), (one, other)
    if kind != "cascade":
        assert torch.equal(found["others first"], found["others last"])
        assert not torch.allclose(found["others first"], found["ann"], atol=1e-2)


def test_what_can_not_be_is_said_before_anything_is_drawn(host: Host) -> None:
    graph, _, _ = people(host, "flux")
    graph["compiled"] = node("PalateProbeOtherPack", model=["load", 0], what="compiled")
    draw_with(graph, "flux compiled", apply(graph, "applied", ["compiled", 0], user="ann"))
    with pytest.raises(NodeError, match=r"PalateApplyUser: .*this model is compiled.*Take the node that compiles it"):
        host.run(graph)
    graph["late"] = node("PalateProbeOtherPack", model=apply(graph, "applied", user="ann"), what="compiled")
    draw_with(graph, "flux compiled", ["late", 0])
    with pytest.raises(NodeError, match=r"KSampler: .*this model is compiled"):
        host.run(graph)
    graph["load"]["inputs"]["what"] = "sd3"
    draw_with(graph, "flux compiled", apply(graph, "applied", user="ann"))
    with pytest.raises(NodeError, match=r"PalateApplyUser: .*'custom 3'.*has 128 to 128 to 128 channels in 2 heads"):
        host.run(graph)
