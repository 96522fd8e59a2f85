"""A taste saved as an embedding in one graph, used by ComfyUI's own text node in the next."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from comfy_host import Host, NodeError, find_comfyui
from graphs import collect, fit, node, playground, probe
from palate.adapters.files import load_embedding, save_embedding
from palate.adapters.steering.portable import PortableEmbedding

TEXTS = ("a red star", "a small house on the left", "a ball, mint background")


@pytest.fixture(scope="module")
def taught(host: Host) -> str:
    """A person with answers to two prompts."""
    for text in ("a blue fish", "a tree, sand background"):
        for pair in host.run(collect(playground(), "emma", text))["collect"]["palate_pairs"]:
            host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    return "emma"


def saving(person: str, name: str, **more) -> dict:
    graph = playground()
    taste = fit(graph, person, ["load", 3])
    settings = {"vectors": 2, "steps": 30, "prompts": "a star\na tree\na boat\na fish, night background"} | more
    graph["save"] = node(
        "PalateSaveEmbedding", clip=["load", 1], taste=taste, encoder=["load", 3], name=name, **settings
    )
    return graph


def test_an_embedding_saved_in_one_graph_is_a_word_in_the_next(host: Host, taught: str) -> None:
    said = host.run(saving(taught, "emmas-taste"))["save"]["text"]
    path = host.folder / "models" / "embeddings" / "emmas-taste.safetensors"
    saved = load_embedding(path)
    assert "embedding:emmas-taste" in said[0] and saved.person == "emma" and saved.vectors["clip_l"].shape == (2, 96)
    assert saved.effect["degrees"] > 0.5

    graph = playground()
    for number, text in enumerate(TEXTS):
        for kind, end in (("plain", ""), ("word", ", embedding:emmas-taste")):
            graph[f"{kind} {number}"] = node("CLIPTextEncode", text=text + end, clip=["load", 1])
            graph[f"probe {kind} {number}"] = probe([f"{kind} {number}", 0], f"emma {kind} {number}")
    host.run(graph)
    turned = [along(host, number, saved.encoders["clip_l"]) for number in range(len(TEXTS))]
    assert min(turned) > 0 and sum(turned) / len(turned) > 0.02  # of a unit vector along the taste


def along(host: Host, number: int, identity: str) -> float:
    """By how much the word raised the taste's utility of a prompt's embedding."""
    from palate.adapters.comparisons import PreferenceStore
    from palate.adapters.encoders import load_encoder
    from palate.adapters.taste import fit_taste

    encoder = load_encoder("playground")
    assert encoder.identity == identity and encoder.text_projection is not None
    with PreferenceStore.existing(host.home / "store") as store:
        direction = fit_taste(store, encoder, "emma").direction
    values = []
    for kind in ("plain", "word"):
        states = host.probe(f"emma {kind} {number}")[0][0][0]
        end = ends(TEXTS[number], 3 if kind == "word" else 0)
        x = torch.nn.functional.normalize(encoder.text_projection @ states[end], dim=0)
        values.append(float(x @ direction))
    return values[1] - values[0]


def ends(text: str, more: int) -> int:
    """Place of the end token: one token a word in the playground's captions; `more` for a comma and the vectors."""
    return 1 + len(text.replace(",", " ,").split()) + more


def test_the_name_is_checked_before_anything_is_trained(host: Host, taught: str) -> None:
    with pytest.raises(NodeError, match="knows already"):
        host.run(saving(taught, "star"))
    with pytest.raises(NodeError, match="no name that all tools can read"):
        host.run(saving(taught, "../up"))


def test_another_persons_file_is_left_alone(host: Host, taught: str) -> None:
    host.run(saving(taught, "shared-word", steps=1))
    for pair in host.run(collect(playground(), "noah", "a moon"))["collect"]["palate_pairs"]:
        host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    with pytest.raises(NodeError, match="another person"):
        host.run(saving("noah", "shared-word", steps=1))
    assert load_embedding(host.folder / "models" / "embeddings" / "shared-word.safetensors").person == "emma"


def test_comfyuis_own_loader_reads_both_kinds_of_files(tmp_path: Path) -> None:
    found = find_comfyui()
    if isinstance(found, str):
        pytest.skip(found)
    sd15 = PortableEmbedding({"clip_l": torch.randn(3, 768)})
    sdxl = PortableEmbedding({"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)})
    save_embedding(sd15, tmp_path / "word-one")
    save_embedding(sdxl, tmp_path / "word-two")
    script = """
import sys, torch
from comfy.cli_args import args
args.cpu = True
from comfy.sd1_clip import load_embed
wanted = (("word-one", 768, "clip_l"), ("word-two", 768, "clip_l"), ("word-two", 1280, "clip_g"))
torch.save([load_embed(name, sys.argv[1], width, key) for name, width, key in wanted], sys.argv[1] + "/read.pt")
"""
    folder, python = found
    command = [str(python), "-c", script, str(tmp_path)]
    subprocess.run(command, cwd=folder, check=True, timeout=300, env=os.environ | {"PYTHONPATH": str(folder)})
    read = torch.load(tmp_path / "read.pt", weights_only=True)
    for tensor, wanted in zip(read, (*sd15.vectors.values(), *sdxl.vectors.values()), strict=True):
        assert torch.equal(tensor, wanted)
