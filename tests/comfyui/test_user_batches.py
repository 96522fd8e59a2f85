"""Several people in one batch: each picture is the one that its person alone would get."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_host import ROOT, Host, NodeError
from graphs import Graph, node, playground
from palate.adapters.files import save_ppd, save_user
from palate.adapters.ppd.layers import LayerShape, layers_of
from user_graphs import apply, draw_with, drawn, random_ppd, random_user

PEOPLE = ("ann", "ben", "cleo")
CLOSE = {"atol": 1e-4, "rtol": 1e-4}  # of values up to 6; a batch is multiplied in other blocks than one picture


def playground_layers() -> tuple[LayerShape, ...]:
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(ROOT / "adapters" / "playground" / "models" / "unet")
    with torch.device("meta"):
        return layers_of(UNet2DConditionModel.from_config(config))


@pytest.fixture(scope="module")
def people(host: Host) -> Graph:
    """Three people as "ann", "ben" and "cleo", the second with a negative half; "batch" is the three in a row."""
    ppd = random_ppd(playground_layers(), 96, "playground", seed=4)
    save_ppd(ppd, host.home / "ppd" / "of three.safetensors")
    graph = playground() | {"ppd": node("PalateLoadPPD", file="palate_ppd/of three.safetensors")}
    for seed, person in enumerate(PEOPLE):
        save_user(random_user(ppd, seed, person == "ben", person), host.home / "users" / f"{person}.safetensors")
        graph[person] = node("PalateLoadUser", file=f"{person}.safetensors", ppd=["ppd", 0])
    graph["two"] = node("PalateBatchUsers", user_1=["ann", 0], user_2=["ben", 0])
    graph["batch"] = node("PalateBatchUsers", user_1=["two", 0], user_2=["cleo", 0])
    graph["text"] = node("CLIPTextEncode", clip=["load", 1], text="a red star")
    graph["no text"] = node("CLIPTextEncode", clip=["load", 1], text="")
    graph["latent"] = node("EmptyLatentImage", width=128, height=128, batch_size=4)
    return graph


def in_two_parts(graph: Graph) -> None:
    """A second positive text for one corner only: its calls have other rows, and the negative text goes with one."""
    graph["blue"] = node("CLIPTextEncode", clip=["load", 1], text="a blue circle")
    graph["corner"] = node("ConditioningSetArea", conditioning=["blue", 0], width=64, height=64, x=64, y=64,
                           strength=1.0)  # fmt: skip
    graph["both"] = node("ConditioningCombine", conditioning_1=["text", 0], conditioning_2=["corner", 0])


@pytest.mark.parametrize("parts", [False, True])
def test_each_picture_is_the_one_that_its_person_alone_would_get(host: Host, people: Graph, parts: bool) -> None:
    graph = dict(people)
    in_two_parts(graph)
    for person in (*PEOPLE, "batch"):
        draw_with(graph, f"batch {person}", apply(graph, f"for {person}", user=person), steps=2)
        if parts:
            graph[f"sample batch {person}"]["inputs"] |= {"positive": ["both", 0]}
    *alone, together = drawn(host, graph, *(f"batch {person}" for person in (*PEOPLE, "batch")))
    for picture, found in enumerate(together):
        torch.testing.assert_close(found, alone[picture % 3][picture], **CLOSE)
        assert (found - alone[(picture + 1) % 3][picture]).abs().max() > 0.1


def test_a_batch_goes_with_another_user_in_either_order(host: Host, people: Graph) -> None:
    graph = dict(people)
    for person in ("ann", "ben"):
        apply(graph, f"for {person}", user=person)
        draw_with(graph, f"batch {person}", apply(graph, f"and {person}", [f"for {person}", 0], "cleo", strength=0.5),
                  steps=2)  # fmt: skip
    apply(graph, "first two", user="two")
    draw_with(graph, "batch then", apply(graph, "then", ["first two", 0], "cleo", strength=0.5), steps=2)
    apply(graph, "cleo first", user="cleo", strength=0.5)
    draw_with(graph, "batch before", apply(graph, "two last", ["cleo first", 0], "two"), steps=2)
    ann, ben, then, before = drawn(host, graph, "batch ann", "batch ben", "batch then", "batch before")
    torch.testing.assert_close(then, before, **CLOSE)
    torch.testing.assert_close(then, torch.stack([ann[0], ben[1], ann[2], ben[3]]), **CLOSE)


def test_ip_adapters_go_before_between_and_after_with_the_same_bits(host: Host, people: Graph) -> None:
    """IP-Adapter packs call `add` on whatever is in a layer's place; a user must never be there."""
    graph = dict(people)

    def picture(name: str, model: Any, strength: float) -> list[Any]:
        graph[name] = node("PalateProbePicture", model=list(model), strength=strength)
        return [name, 0]

    orders = {
        "before": apply(
            graph, "after both", picture("both pictures", picture("one picture", ("load", 0), 0.7), 0.3), "batch"
        ),
        "between": picture("later", apply(graph, "after one", picture("first", ("load", 0), 0.7), "batch"), 0.3),
        "after": picture("last", picture("next", apply(graph, "before both", user="batch"), 0.7), 0.3),
        "without": ["both pictures", 0],
    }
    for name, model in orders.items():
        draw_with(graph, f"picture {name}", model, steps=2)
    before, between, after, without = drawn(host, graph, *(f"picture {name}" for name in orders))
    assert torch.equal(before, between) and torch.equal(before, after)
    assert not torch.allclose(before, without, atol=1e-2)


def test_one_of_another_ppd_is_named_before_anything_is_drawn(host: Host, people: Graph) -> None:
    graph: dict[str, Any] = dict(people)
    other = random_ppd(playground_layers(), 96, "playground", seed=9)
    save_user(random_user(other, 1, person="stranger"), host.home / "users" / "stranger.safetensors")
    graph["stranger"] = node("PalateLoadUser", file="stranger.safetensors")
    graph["mixed"] = node("PalateBatchUsers", user_1=["ann", 0], user_2=["stranger", 0])
    draw_with(graph, "batch mixed", apply(graph, "for mixed", user="mixed"))
    with pytest.raises(NodeError, match=r"PalateApplyUser: .*'stranger' with the PPD 'playground 4'"):
        host.run(graph)


@pytest.mark.parametrize(("kind", "what"), [("PalateSaveUser", "save a user"), ("PalateBlendUsers", "blend users")])
def test_a_batch_is_no_user_to_save_or_blend(host: Host, people: Graph, kind: str, what: str) -> None:
    graph: dict[str, Any] = dict(people)
    blend = {"user_1": ["batch", 0], "weight_1": 1.0, "user_2": ["ann", 0], "weight_2": 0.5}
    graph["used"] = node(kind, **(blend if kind == "PalateBlendUsers" else {"user": ["batch", 0], "name": "three"}))
    graph["save"] = node("PalateSaveUser", user=["used", 0], name="used")
    with pytest.raises(NodeError, match=rf"{kind}: Cannot {what}: found a batch of 3 people \(ann, ben, cleo\)"):
        host.run(graph)
