"""Graphs in ComfyUI's API format, built as a person would wire them."""

from __future__ import annotations

from typing import Any

from comfy_host import Host
from palate.adapters.comparisons import Comparison, PreferenceStore
from PIL import Image

Graph = dict[str, Any]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """One node."""
    return {"class_type": kind, "inputs": inputs}


def probe(value: list[Any], name: str) -> dict[str, Any]:
    """A node that saves a value for the test to look at."""
    return node("PalateProbe", value=value, name=name)


def playground() -> Graph:
    """MODEL, CLIP, VAE and encoder of the playground: ["load", 0 to 3]."""
    return {"load": node("PalateLoadPlayground")}


def sample(graph: Graph, name: str, positive: list[Any], seed: int = 1, batch: int = 1, size: int = 128) -> list[Any]:
    """Add what makes images of a conditioning; needs "load". Returns the link to the images."""
    graph["negative"] = node("CLIPTextEncode", text="", clip=["load", 1])
    graph["latent"] = node("EmptyLatentImage", width=size, height=size, batch_size=batch)
    graph[f"{name} sample"] = node(
        "KSampler",
        model=["load", 0],
        seed=seed,
        steps=2,
        cfg=3.0,
        sampler_name="euler",
        scheduler="simple",
        positive=positive,
        negative=["negative", 0],
        latent_image=["latent", 0],
        denoise=1.0,
    )
    graph[name] = node("VAEDecode", samples=[f"{name} sample", 0], vae=["load", 2])
    return [name, 0]


def collect(graph: Graph, person: str, text: str, batch: int = 4, seed: int = 1) -> Graph:
    """Add images of a prompt and the node "collect" that asks about them."""
    graph["text"] = node("CLIPTextEncode", text=text, clip=["load", 1])
    images = sample(graph, "shown", ["text", 0], seed, batch)
    graph["collect"] = node("PalateCollectPairs", images=images, person=person, mode="record")
    return graph


def fit(graph: Graph, person: str, encoder: list[Any]) -> list[Any]:
    """Add "fit"; returns the link to the taste."""
    graph["fit"] = node(
        "PalateFitTaste", person=person, encoder=encoder, prior_variance=0.0, without_answers="stop and say so"
    )
    return ["fit", 0]


def adapt(
    text: str,
    taste: list[Any],
    encoder: list[Any],
    strength: float = 1.0,
    steps: int = 2,
    clip: Any = None,
    method: str = "encoder",
    **more: Any,
) -> dict[str, Any]:
    """An adapting node for the CLIP of "load"."""
    return node(
        "PalateAdaptConditioning",
        clip=clip or ["load", 1],
        text=text,
        taste=taste,
        encoder=encoder,
        method=method,
        strength=strength,
        steps=steps,
        **more,
    )


def answers(host: Host, person: str) -> None:
    """Eight answers of somebody who likes it light."""
    with PreferenceStore(host.home / "store") as store:
        for k in range(8):
            light, dark = (store.add_image(Image.new("RGB", (32, 32), (c + k, c, c))) for c in (200, 40))
            store.add(Comparison(person, light, dark, "left", prompt="a red star"))
