"""Graphs with a user in them, and random PPDs and users for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_host import Host
from graphs import Graph, node, playground, probe
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.layers import LayerShape
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User

STEPS = 4


def random_ppd(layers: Sequence[LayerShape], width: int, base: str, encoder: Any = None, seed: int = 0) -> PPD:
    """Weights that move pictures a good deal, and halves already, as a file has them."""
    attention = UserAttention(layers, width)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in attention.values:
            value.weight.copy_(0.1 * torch.randn(value.weight.shape, generator=draw))
    return PPD(attention, encoder, base, name=f"{base} {seed}").half().float()


def random_user(ppd: PPD, seed: int, negative: bool = False, person: str = "uma") -> User:
    tokens, other = torch.randn(2, 4, ppd.width, generator=torch.Generator().manual_seed(seed))
    return User(tokens, ppd.identity, other if negative else None, person=person, base=ppd.base)


def encoded(person: str = "uma", **more: Any) -> Graph:
    """The playground, the random PPD, and the user "user" of a person."""
    graph = playground()
    graph["ppd"] = node("PalateLoadPPD", file="palate_ppd/random.safetensors", encoder=["load", 3])
    graph["user"] = node("PalateEncodeUser", person=person, encoder=["load", 3], ppd=["ppd", 0], **more)
    graph["text"] = node("CLIPTextEncode", clip=["load", 1], text="a red star")
    graph["no text"] = node("CLIPTextEncode", clip=["load", 1], text="")
    graph["latent"] = node("EmptyLatentImage", width=128, height=128, batch_size=2)
    return graph


def apply(graph: Graph, name: str, model: Any = ("load", 0), user: str = "user", **more: Any) -> list[Any]:
    """Add an Apply User; returns the link to its model."""
    settings = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0} | more
    graph[name] = node("PalateApplyUser", model=list(model), ppd=["ppd", 0], user=[user, 0], **settings)
    return [name, 0]


def lora(graph: Graph, name: str, model: Any) -> list[Any]:
    graph[name] = node(
        "LoraLoaderModelOnly", model=list(model), lora_name="of-attention.safetensors", strength_model=1.0
    )
    return [name, 0]


def draw_with(graph: Graph, name: str, model: Any = ("load", 0), steps: int = STEPS, cfg: float = 3.0) -> None:
    """Add a sampler whose latents are kept under a name; needs "text", "no text" and "latent"."""
    graph[f"sample {name}"] = node(
        "KSampler", model=list(model), seed=3, steps=steps, cfg=cfg, sampler_name="euler", scheduler="simple",
        positive=["text", 0], negative=["no text", 0], latent_image=["latent", 0], denoise=1.0,
    )  # fmt: skip
    graph[f"probe {name}"] = probe([f"sample {name}", 0], f"user {name}")


def drawn(host: Host, graph: Graph, *names: str) -> list[torch.Tensor]:
    """Run, and return the latents of these samplers."""
    host.run(graph)
    return [host.probe(f"user {name}")["samples"] for name in names]
