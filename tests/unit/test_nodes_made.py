"""Pictures of ordinary runs in ComfyUI's history: which are asked about together, and what they were made from."""

from __future__ import annotations

from typing import Any

import node_modules
import pytest
from palate.adapters.errors import ComparisonError

made = node_modules.node_module("made")

GRAPH: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["8", 0], "clip": ["1", 1]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["1", 1]}},
    "4": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "model": ["1", 0], "negative": ["3", 0], "positive": ["2", 0], "latent_image": ["5", 0]},
    },
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64}},
    "6": {"class_type": "VAEDecode", "inputs": {"vae": ["1", 2], "samples": ["4", 0]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "a"}},
    "8": {"class_type": "PrimitiveString", "inputs": {"value": " a red star "}},
}


def run(*names: str, prompt: str = "a red star", node: str = "7", kind: str = "output", **more: Any) -> dict[str, Any]:
    graph = GRAPH | {"8": {"class_type": "PrimitiveString", "inputs": {"value": prompt}}}
    images = [{"filename": name, "subfolder": "", "type": kind} for name in names]
    return {"prompt": (0, "id", graph, {}, []), "outputs": {node: {"images": images} | more}}


def picture(name: str, kind: str = "output") -> tuple[str, str, str]:
    return name, "", kind


def together(history: dict[str, Any], shown: list[tuple[str, str, str]], *gone: str) -> Any:
    return made.together(history, shown, lambda one: one[0] not in gone)


def test_the_prompt_is_the_positive_text_even_by_a_wire() -> None:
    assert made.prompt_of(GRAPH, "7") == "a red star"


def test_a_guider_leads_to_the_text_behind_flux_guidance() -> None:
    graph = {
        "1": {"class_type": "CLIPTextEncodeFlux", "inputs": {"clip_l": "", "t5xxl": "a blue fish", "clip": ["9", 0]}},
        "2": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["1", 0], "guidance": 3.5}},
        "3": {"class_type": "BasicGuider", "inputs": {"model": ["9", 0], "conditioning": ["2", 0]}},
        "4": {"class_type": "SamplerCustomAdvanced", "inputs": {"noise": ["8", 0], "guider": ["3", 0]}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0]}},
    }
    assert made.prompt_of(graph, "5") == "a blue fish"


def test_two_pictures_that_a_node_lays_over_each_other_are_asked_about() -> None:
    sides = {f"{side}_images": [{"filename": side, "subfolder": "", "type": "temp"}] for side in "ba"}
    history = {"1": run("old"), "2": {"prompt": run()["prompt"], "outputs": {"7": sides}}}
    shown = [picture("a", "temp"), picture("b", "temp")]
    assert together(history, shown) == (shown, "a red star")


def test_prompts_are_read_off_those_runs_only_that_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(made, "prompt_of", lambda graph, node: read.append(graph) or "")
    together({str(number): run(f"{number}a", f"{number}b") for number in range(50)}, [picture("7a"), picture("7b")])
    assert len(read) <= 2


@pytest.mark.parametrize("graph", [{}, {"7": {}}, {"7": {"inputs": {"images": ["7", 0]}}}, {"7": {"inputs": None}}])
def test_no_text_is_no_error(graph: dict[str, Any]) -> None:
    assert made.prompt_of(graph, "7") == ""


def test_a_batch_is_asked_about_as_it_is_shown() -> None:
    history = {"a": run("1.png", "2.png", "3.png")}
    assert together(history, [picture("2.png"), picture("1.png")]) == (
        [picture("2.png"), picture("1.png")],
        "a red star",
    )


def test_a_single_picture_comes_behind_the_newest_of_its_prompt() -> None:
    history = {
        "a": run("1.png"),
        "b": run("2.png", prompt="a moon"),
        "c": run("other.png", node="6"),
        "d": run("3.png"),
        "e": run("3.png"),  # the same seed again: ComfyUI shows what it had
        "f": run("later.png"),
    }
    assert together(history, [picture("3.png")]) == ([picture("1.png"), picture("3.png")], "a red star")
    del history["a"]
    assert together(history, [picture("3.png")]) == ([picture("2.png"), picture("3.png")], "")


@pytest.mark.parametrize(
    ("history", "shown", "words"),
    [
        ({}, ["1.png"], "history of this session has no such picture"),
        ({"a": run("1.png")}, ["../../1.png"], "no such picture"),
        ({"a": run("1.png", kind="input")}, ["1.png"], "no such picture"),
        ({"a": run("1.png", animated=[True])}, ["1.png"], "no such picture"),
        ({"a": run("1.png")}, ["1.png"], "once more with another seed"),
        ({"a": run("1.png")}, [], "Cannot compare 0 pictures"),
        ({"a": run(*map(str, range(17)))}, list(map(str, range(17))), "expected 2 to 16"),
    ],
)
def test_what_cannot_be_compared_is_said(history: dict[str, Any], shown: list[str], words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        together(history, [picture(name) for name in shown])


def test_what_was_deleted_is_passed_over_or_said() -> None:
    history = {"a": run("1.png"), "b": run("2.png"), "c": run("3.png")}
    assert together(history, [picture("3.png")], "2.png")[0] == [picture("1.png"), picture("3.png")]
    with pytest.raises(ComparisonError, match="its file was deleted"):
        together(history, [picture("3.png"), picture("2.png")], "2.png")
    with pytest.raises(ComparisonError, match="once more with another seed"):
        together(history, [picture("3.png")], "1.png", "2.png")


def test_an_empty_positive_text_is_not_the_negative_one() -> None:
    both = {"positive": ["2", 0], "negative": ["3", 0], "control_net": ["9", 0]}
    graph = GRAPH | {
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "4": {"class_type": "KSampler", "inputs": {"positive": ["10", 0], "negative": ["10", 1]}},
        "10": {"class_type": "ControlNetApplyAdvanced", "inputs": both},
    }
    assert made.prompt_of(graph, "7") == ""


def test_the_newer_picture_is_on_either_side_and_a_pair_is_always_the_same_one() -> None:
    pairs = [[picture(f"{number}.png"), picture(f"{number + 1}.png")] for number in range(40)]
    mixed = [made.sides(pair, "kim") for pair in pairs]
    assert [made.sides(pair[::-1], "kim") for pair in pairs] == mixed
    assert 10 <= sum(one == pair for one, pair in zip(mixed, pairs, strict=True)) <= 30
    assert [sorted(one) for one in mixed] == [sorted(pair) for pair in pairs]
