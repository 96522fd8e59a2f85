"""SD3 and Flux trained by the node, from files as people have them, and the LoRA on those very files in ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import joint_singles as models
import pytest
import torch
from comfy_host import Host, NodeError
from graphs import answers, node
from palate.adapters.steering.joint import load_joint
from safetensors import safe_open
from safetensors.torch import save_file

KINDS = {"sd35": "StableDiffusion3Pipeline", "flux": "FluxPipeline"}
# As people have them; the diffusers folder of both is the same way.
SOURCES = {"sd35": ["whole-{}.safetensors", "diffusers/tiny-{}"], "flux": ["diffusion_models/tiny-{}.safetensors"]}
QUICK = {"loss": "mapo", "rank": 2, "steps": 2, "learning_rate": 0.01, "size": 64, "drop_doubted": False}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, host: Host) -> Iterator[str]:
    """A family whose model is in the host's folders: whole, a file a part, and as a diffusers folder."""
    name, place = request.param, host.folder / "models"
    folder = models.write_folder(name, place / "diffusers" / f"tiny-{name}")
    model = load_joint(folder, KINDS[name], torch.float32)
    models.write_all_in_one(model.pipeline, place / "checkpoints" / f"whole-{name}.safetensors")
    made = []
    for part, file in models.write_split(model.pipeline, host.folder / f"parts of {name}").items():
        where = {"denoiser": "diffusion_models", "vae": "vae"}.get(part, "text_encoders")
        made.append(place / where / (f"tiny-{name}.safetensors" if part == "denoiser" else file.name))
        made[-1].parent.mkdir(exist_ok=True)
        file.rename(made[-1])
    answers(host, f"trainer of {name}")
    yield name
    for file in made:  # the other family's are not to be taken for its own
        file.unlink(missing_ok=True)


def in_comfyui(host: Host, kind: str, lora: Any) -> dict[str, Any]:
    """What the host's model answers with a LoRA, and what it was asked."""
    graph = {
        "load": node("UNETLoader", unet_name=f"tiny-{kind}.safetensors", weight_dtype="default"),
        "lora": node("LoraLoaderModelOnly", model=["load", 0], lora_name=lora, strength_model=1.0),
        "watch": node("PalateProbeCalls", model=["lora", 0], name=f"calls of {kind}"),
        "text": node("PalateProbeText", width=models.T5, seed=1, pooled=_pooled(kind)),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
    }
    if kind == "flux":  # ComfyUI knows Flux with 24 heads alone
        graph["load"] = node("PalateProbeFlux", file=f"tiny-{kind}.safetensors")
    graph["sample"] = node(
        "KSampler", model=["watch", 0], seed=3, steps=1, cfg=1.0, sampler_name="euler", scheduler="simple",
        positive=["text", 0], negative=["text", 0], latent_image=["latent", 0], denoise=1.0,
    )  # fmt: skip
    graph["save"] = node("PalateProbe", value=["sample", 0], name=f"drawn by {kind}")
    host.run(graph)
    return dict(host.probe(f"calls of {kind}"))


def _pooled(kind: str) -> int:
    return models.CLIP_L + (0 if kind == "flux" else models.PROJECTED)


def in_diffusers(kind: str, model: Any, call: dict[str, Any]) -> torch.Tensor:
    """What diffusers' model answers to the same."""
    with torch.no_grad():
        if kind != "flux":
            return model(call["x"], call["context"], call["y"], call["time"]).sample
        packed = torch.nn.functional.pixel_unshuffle(call["x"], 2).flatten(2).transpose(1, 2)
        side = call["x"].shape[-1] // 2
        places = torch.cartesian_prod(torch.arange(1), torch.arange(side), torch.arange(side)).float()
        words = torch.zeros(call["context"].shape[1], 3)
        out = model(packed, call["context"], call["y"], call["time"], places, words, call["guidance"]).sample
        return torch.nn.functional.pixel_shuffle(out.transpose(1, 2).unflatten(2, (side, side)), 2)


def test_the_node_trains_it_and_the_hosts_loader_takes_it(kind: str, host: Host) -> None:
    for source in SOURCES[kind]:
        trained_and_taken(kind, source, host)


def trained_and_taken(kind: str, source: str, host: Host) -> None:
    settings = {"checkpoint": source.format(kind), "person": f"trainer of {kind}", "name": f"{kind} {source[:9]}"}
    # The VAE that is taken anyway, by its name; and what Flux needs where memory is short.
    settings |= {"vae": "ae.safetensors", "frozen": "int8"} if kind == "flux" else {}
    before = len(host.log.read_text())
    told = host.run({"train": node("PalateTrainPreferenceLora", **QUICK, **settings)})["train"]["text"][0]
    assert "Saved as" in told and ("With clip_l.safetensors" in told) == source.startswith("diffusion_models")
    lora = told.partition("Saved as ")[2].splitlines()[0].rstrip(".")
    with safe_open(str(host.folder / "models" / "loras" / lora), framework="pt") as file:
        assert file.metadata().get("palate.frozen") == settings.get("frozen")
    call = in_comfyui(host, kind, lora)
    assert "not loaded" not in host.log.read_text()[before:].lower()
    place = host.folder / "models"
    whole = load_joint(place / "diffusers" / f"tiny-{kind}", KINDS[kind], torch.float32)
    plain = in_diffusers(kind, whole.denoiser, call)
    whole.pipeline.load_lora_weights(str(place / "loras" / lora))
    wanted = in_diffusers(kind, whole.denoiser, call)
    assert (wanted - plain).abs().max() > 1e-2
    torch.testing.assert_close(call["out"], wanted, atol=2e-3, rtol=2e-3)


def test_what_is_missing_is_said_before_it_starts(kind: str, host: Host) -> None:
    (host.folder / "models" / "text_encoders" / "clip_l.safetensors").rename(host.folder / "clip_l.safetensors")
    settings = {"checkpoint": f"diffusion_models/tiny-{kind}.safetensors", "person": f"trainer of {kind}"}
    with pytest.raises(NodeError, match=r"found no CLIP-L.* for it, beside .*; expected a CLIP-L.*text_encoders"):
        host.run({"train": node("PalateTrainPreferenceLora", **QUICK, **settings, name="never")})
    save_file(
        {"text_model.embeddings.token_embedding.weight": torch.zeros(8, 24)},
        host.folder / "models" / "text_encoders" / "wide.safetensors",
    )
    settings |= {"checkpoint": f"whole-{kind}.safetensors", "clip_l": "wide.safetensors"}
    with pytest.raises(NodeError, match=r"found wide.safetensors, a CLIP .*24 wide, which doesn't fit it; expected"):
        host.run({"train": node("PalateTrainPreferenceLora", **QUICK, **settings, name="never")})
    settings["checkpoint"] = "playground"
    with pytest.raises(NodeError, match=r"Cannot train 'playground' with wide.safetensors: .* Set clip_l, .* to auto"):
        host.run({"train": node("PalateTrainPreferenceLora", **QUICK, **settings, name="never")})
