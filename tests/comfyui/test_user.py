"""A user in ComfyUI's own runs: the same pictures as in diffusers, beside LoRAs and other packs in any order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_host import ROOT, Host, NodeError
from graphs import Graph, collect, node, playground, probe
from palate.adapters.files import load_user, save_ppd, save_user
from palate.adapters.ppd.layers import LayerShape, layers_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.adapters.ppd.user import User
from safetensors.torch import save_file
from user_graphs import STEPS, apply, draw_with, drawn, encoded, lora, random_ppd, random_user

MODELS = ROOT / "adapters" / "playground" / "models"
LORA = {
    f"lora_unet_{block}_transformer_blocks_0_attn2_{part}": width
    for block, width in (("down_blocks_0_attentions_0", 64), ("mid_block_attentions_0", 128))
    for part in ("to_q", "to_out_0")
}


@pytest.fixture(scope="module")
def unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(MODELS / "unet", torch_dtype=torch.float32).requires_grad_(False)


@pytest.fixture(scope="module")
def uma(host: Host, unet: Any) -> PPD:
    """A PPD for the playground in Palate's folder, a LoRA, and a person with four answers."""
    ppd = random_ppd(layers_of(unet), 96, "playground", PairsEncoder(96, 96, hidden=64))
    save_ppd(ppd, host.home / "ppd" / "random.safetensors")
    draw = torch.Generator().manual_seed(1)
    weights = {}
    for name, width in LORA.items():
        weights[f"{name}.lora_up.weight"] = 0.3 * torch.randn(width, 2, generator=draw)
        weights[f"{name}.lora_down.weight"] = 0.3 * torch.randn(2, width, generator=draw)
    (host.folder / "models" / "loras").mkdir(exist_ok=True)
    save_file(weights, host.folder / "models" / "loras" / "of-attention.safetensors")
    for pair in host.run(collect(playground(), "uma", "a red star", batch=8))["collect"]["palate_pairs"]:
        host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    return ppd


def in_diffusers(host: Host, unet: Any, ppd: PPD, user: User | None, **how: Any) -> torch.Tensor:
    """The same run by hand: Euler's steps over ComfyUI's noise levels, with diffusers' UNet and `use_user`."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler
    from palate.adapters.ppd.diffusers import use_user

    noisy = 1 - EulerDiscreteScheduler.from_pretrained(MODELS / "scheduler").alphas_cumprod
    times = [999 - int(step * 1000 / STEPS) for step in range(STEPS)]
    levels = [float((noisy[time] / (1 - noisy[time])) ** 0.5) for time in times] + [0.0]
    context = torch.cat([host.probe(f"user {name}")[0][0].repeat(2, 1, 1) for name in ("negative", "positive")])
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3)) * (1 + levels[0] ** 2) ** 0.5
    with torch.no_grad(), use_user(unet, ppd, user, **how):
        for time, sigma, following in zip(times, levels, levels[1:], strict=False):
            scale = (1 + sigma**2) ** 0.5
            velocity = unet(torch.cat([x, x]) / scale, time, context).sample
            uncond, cond = (x / scale**2 - v * sigma / scale for v in velocity.chunk(2))
            x = x + (x - (uncond + 3.0 * (cond - uncond))) / sigma * (following - sigma)
    return x / AutoencoderKL.load_config(MODELS / "vae")["scaling_factor"]


def test_a_person_is_drawn_for_as_in_diffusers(host: Host, uma: PPD, unet: Any) -> None:
    """The person's answers, a part of the schedule and a LoRA on the layers that a user shares with the text."""
    graph = encoded()
    graph["save"] = node("PalateSaveUser", user=["user", 0], name="uma")
    graph["probe positive"], graph["probe negative"] = (
        probe([text, 0], f"user {name}") for text, name in (("text", "positive"), ("no text", "negative"))
    )
    apply(graph, "part", strength=0.7, start_percent=0.2, end_percent=0.8)
    for name, model in {
        "plain": ["load", 0],
        "whole": apply(graph, "whole"),
        "part": ["part", 0],
        "lora before": apply(graph, "after lora", lora(graph, "lora 1", ["load", 0])),
        "lora after": lora(graph, "lora 2", ["whole", 0]),
    }.items():
        draw_with(graph, name, model)
    plain, whole, part, before, after = drawn(host, graph, "plain", "whole", "part", "lora before", "lora after")
    user = load_user(host.home / "users" / "uma.safetensors", uma)
    assert user.pairs == 4 and user.person == "uma"
    assert torch.equal(before, after)

    by_hand = [
        in_diffusers(host, unet, uma, None),
        in_diffusers(host, unet, uma, user),
        in_diffusers(host, unet, uma, user, strength=0.7, start_percent=0.2, end_percent=0.8),
    ]
    changes = lora_changes(host)
    with_lora = type(unet).from_config(unet.config).requires_grad_(False)
    with_lora.load_state_dict({name: weight + changes.get(name, 0) for name, weight in unet.state_dict().items()})
    by_hand.append(in_diffusers(host, with_lora, uma, user))
    for found, wanted, close in zip((plain, whole, part, before), by_hand, (1e-4, 1e-3, 1e-3, 5e-3), strict=True):
        assert (found - wanted).abs().max() < close  # of values up to 6; the host rounds a LoRA's weights to halves
    assert all((found - plain).abs().mean() > 0.02 * plain.abs().mean() for found in (whole, part, before))


def lora_changes(host: Host) -> dict[str, torch.Tensor]:
    """What the LoRA's file changes, by the names of diffusers' weights."""
    from safetensors.torch import load_file

    tensors = load_file(host.folder / "models" / "loras" / "of-attention.safetensors")
    found = {}
    for name in LORA:
        path = name.removeprefix("lora_unet_").replace("_attentions_0_transformer_blocks_0_attn2_", ".")
        block, part = path.replace("down_blocks_0", "down_blocks.0").split(".to_")
        layer = f"{block}.attentions.0.transformer_blocks.0.attn2.to_{part.replace('_0', '.0')}.weight"
        found[layer] = tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"]
    return found


def test_what_is_off_is_the_model_itself_and_nothing_is_left_in_it(host: Host, uma: PPD) -> None:
    graph = encoded()
    still = random_ppd(uma.attention.layers, 96, "playground")
    for value in still.attention.values:
        value.weight.data.zero_()
    save_ppd(still, host.home / "ppd" / "still.safetensors")
    save_user(random_user(still, 1), host.home / "users" / "still.safetensors")
    graph["still"] = node("PalateLoadPPD", file="palate_ppd/still.safetensors")
    graph["still user"] = node("PalateLoadUser", file="still.safetensors", ppd=["still", 0])
    graph["zero"] = node(
        "PalateApplyUser", model=["load", 0], ppd=["still", 0], user=["still user", 0], strength=1.0,
        start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    graph["nobody"] = graph["user"] | {
        "inputs": graph["user"]["inputs"] | {"person": "nobody yet", "without_answers": "start with none"}
    }
    graph["on"] = node("PalateBlendUsers", user_1=["user", 0], weight_1=1.0, user_2=["user", 0], weight_2=0.0)
    models = {
        "base": ["load", 0],
        "off": apply(graph, "off", strength=0.0),
        "zero": ["zero", 0],
        "nobody": apply(graph, "for nobody", user="nobody"),
        "never": apply(graph, "never", start_percent=0.0, end_percent=0.0, strength=2.0),
        "user": apply(graph, "for uma"),
        "blend": apply(graph, "for the blend", user="on"),
    }
    for name, model in models.items():
        draw_with(graph, name, model, steps=2)
    graph["patches"] = node("PalateProbePatches", model=["load", 0], after=["for uma", 0], name="user patches")
    base, *off, user, blend = drawn(host, graph, *models)
    assert all(torch.equal(base, each) for each in off[:3]) and torch.equal(user, blend)
    assert not torch.equal(base, user)
    bare = {"wrappers": {}, "models": {}, "options": [], "same denoiser": True}
    assert host.probe("user patches") == bare


def test_users_add_up_and_go_with_other_packs_in_any_order(host: Host, uma: PPD, unet: Any) -> None:
    graph = encoded()
    save_user(random_user(uma, 2, negative=True), host.home / "users" / "both halves.safetensors")
    graph["both halves"] = node("PalateLoadUser", file="both halves.safetensors", ppd=["ppd", 0])
    graph["probe positive"], graph["probe negative"] = (
        probe([text, 0], f"user {name}") for text, name in (("text", "positive"), ("no text", "negative"))
    )
    models = {
        "one": apply(graph, "for one"),
        "part": apply(graph, "first part", strength=0.6),
        "halves": apply(graph, "for both halves", user="both halves"),
    }
    models["parts"] = apply(graph, "second part", models["part"], strength=0.4)
    for kind in ("replace", "regions"):
        other = graph[kind] = node("PalateProbeOtherPack", model=["load", 0], what=kind)
        models[kind] = [kind, 0]
        models[f"{kind} before"] = apply(graph, f"after {kind}", [kind, 0])
        graph[f"{kind} later"] = other | {"inputs": {"model": ["for one", 0], "what": kind}}
        models[f"{kind} after"] = [f"{kind} later", 0]
    for name, model in models.items():
        draw_with(graph, name, model)
    draw_with(graph, "positive only", models["one"], cfg=1.0)
    draw_with(graph, "plain positive only", cfg=1.0)
    host.run(graph)
    seen = {name: host.probe(f"user {name}")["samples"] for name in (*models, "positive only", "plain positive only")}
    torch.testing.assert_close(seen["one"], seen["parts"], atol=1e-3, rtol=1e-3)
    for kind in ("replace", "regions"):
        assert torch.equal(seen[f"{kind} before"], seen[f"{kind} after"])
        assert not torch.allclose(seen[f"{kind} before"], seen[kind], atol=1e-2)
        assert not torch.allclose(seen[f"{kind} before"], seen["one"], atol=1e-2)
    assert not torch.allclose(seen["positive only"], seen["plain positive only"], atol=1e-2)
    wanted = in_diffusers(host, unet, uma, load_user(host.home / "users" / "both halves.safetensors"))
    assert (seen["halves"] - wanted).abs().max() < 1e-3


def test_a_lora_that_hooks_bring_in_counts_as_one_that_is_loaded(host: Host, uma: PPD) -> None:
    graph = encoded()
    model = apply(graph, "for uma")
    graph["hook"] = node("CreateHookLoraModelOnly", lora_name="of-attention.safetensors", strength_model=1.0)
    for text in ("text", "no text"):
        graph[f"hooked {text}"] = node(
            "ConditioningSetProperties", cond_NEW=[text, 0], strength=1.0, set_cond_area="default", hooks=["hook", 0]
        )
    draw_with(graph, "loaded", lora(graph, "lora", model))
    draw_with(graph, "without", model)
    draw_with(graph, "hooked", model)
    graph["sample hooked"]["inputs"] |= {"positive": ["hooked text", 0], "negative": ["hooked no text", 0]}
    loaded, without, hooked = drawn(host, graph, "loaded", "without", "hooked")
    assert (hooked - loaded).abs().mean() < 0.05 * (without - loaded).abs().mean()


def test_the_users_memory_is_counted_and_may_be_taken_back(host: Host, uma: PPD) -> None:
    graph = encoded()
    draw_with(graph, "first", apply(graph, "for uma", strength=1.1))
    graph["models"] = node("PalateProbeModels", after=["sample first", 0], name="user models")
    (first,) = drawn(host, graph, "first")
    assert "UserTokens" in host.probe("user models")["loaded"]
    host.request("/free", {"unload_models": True})
    grey = {"grey": node("EmptyImage", width=64, height=64, batch_size=1, color=0)}
    for _ in range(20):  # the queue looks at it between two runs
        host.run(grey | {"models": node("PalateProbeModels", after=["grey", 0], name="user models")})
        if not host.probe("user models")["loaded"]:
            break
    assert host.probe("user models")["loaded"] == []
    graph["for uma"]["inputs"]["end_percent"] = 0.9999  # which is the same, but not to the cache
    (second,) = drawn(host, graph, "first")
    assert torch.equal(second, first)
    assert "UserTokens" in host.probe("user models")["loaded"]


def refused(graph: Graph, what: str) -> Graph:
    """The graph with one thing in it that doesn't fit."""
    apply(graph, "applied")
    if what == "class":
        graph["other"] = node("PalateProbeDenoiser", what="stage b")
        graph["applied"]["inputs"]["model"] = ["other", 0]
    elif what == "base":
        graph["ppd"]["inputs"]["file"] = "model_patches/foreign.safetensors"
        graph["user"] = node("PalateLoadUser", file="foreign.safetensors", ppd=["ppd", 0])
    elif what == "user":
        graph["user"] = node("PalateLoadUser", file="foreign.safetensors")
    elif what == "user at its loader":
        graph["user"] = node("PalateLoadUser", file="foreign.safetensors", ppd=["ppd", 0])
    elif what == "encoder":
        graph["ppd"]["inputs"] = {"file": "palate_ppd/of another encoder.safetensors"}
    elif what == "answers":
        graph["user"]["inputs"]["person"] = "nobody yet"
    elif what == "window":
        graph["applied"]["inputs"] |= {"start_percent": 0.8, "end_percent": 0.2}
    else:
        graph["applied"]["inputs"]["strength"] = 100.0
    graph["patches"] = node("PalateProbePatches", model=["applied", 0], after=["applied", 0], name="refused")
    return graph


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("class", "PalateApplyUser: .*a StableCascade_B with a denoiser of class StageB; expected a UNet of SD1.x"),
        ("base", r"PalateApplyUser: .*the PPD 'sd15 7' \(sd15\).*expected .* Load a sd15 model"),
        ("user", "PalateApplyUser: .*width 32"),
        ("user at its loader", "PalateLoadUser: .*width 32"),
        ("encoder", "PalateEncodeUser: .*its own.*playground"),
        ("answers", "PalateEncodeUser: .*'nobody yet': found none"),
        ("window", "PalateApplyUser: .*0.8 to 0.2 of the schedule"),
        ("strength", "Value 100.0 bigger than max of 5.0"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_drawn(host: Host, uma: PPD, what: str, said: str) -> None:
    layers = [LayerShape("mid_block.attentions.0.transformer_blocks.0.attn2", 64, 64, 2, 64)]
    foreign = random_ppd(layers, 32, "sd15", seed=7)
    (host.folder / "models" / "model_patches").mkdir(exist_ok=True)
    save_ppd(foreign, host.folder / "models" / "model_patches" / "foreign.safetensors")
    save_user(random_user(foreign, 1), host.home / "users" / "foreign.safetensors")
    other = random_ppd(uma.attention.layers, 96, "playground", PairsEncoder(96, 96, hidden=64))
    other.image_encoder, other.image_encoder_name = "f" * 64, "its own"
    save_ppd(other, host.home / "ppd" / "of another encoder.safetensors")
    with pytest.raises(NodeError, match=said):
        host.run(refused(encoded(), what))
