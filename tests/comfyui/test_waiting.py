"""Collect Pairs as it waits for a choice, in a real ComfyUI: who is sent on, how it ends, and what is cached."""

from __future__ import annotations

import time
import urllib.error
from typing import Any

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import Graph, fit, node, playground, probe

SOON = 20.0  # seconds that something may take which is under way


def image(color: int, batch: int = 1, size: int = 64) -> dict[str, Any]:
    """A grey that nobody else has."""
    return node("EmptyImage", width=size, height=size, batch_size=batch, color=color)


def colours(graph: Graph, name: str, *values: int) -> list[Any]:
    """Add a batch of plain images; returns the link to it."""
    for number, value in enumerate(values):
        graph[f"{name}{number}"] = image(value)
    graph[name] = graph.pop(f"{name}0")
    link = [name, 0]
    for number in range(1, len(values)):
        graph[f"{name} {number}"] = node("ImageBatch", image1=link, image2=[f"{name}{number}", 0])
        link = [f"{name} {number}", 0]
    return link


def wait(images: list[Any], person: str, **more: Any) -> dict[str, Any]:
    """A node that waits."""
    return node("PalateCollectPairs", images=images, person=person, mode="wait", **more)


def shade(images: torch.Tensor) -> list[int]:
    """The colours of plain images."""
    weights = torch.tensor([65536, 256, 1])
    return [int(value) for value in ((images[:, 0, 0, :3] * 255).round().long() * weights).sum(-1)]


def waiting(host: Host, person: str, count: int = 1) -> list[dict[str, Any]]:
    """The questions that are waited for, once there are `count`."""
    for _ in range(int(SOON * 20)):
        told = host.request("/palate/pairs", {"person": person})
        found = [pair for pair in told["pairs"] if pair["waiting"]]
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{person} is not asked; log:\n{host.log.read_text()[-2000:]}")


def answer(host: Host, pair: dict[str, Any], outcome: str) -> None:
    host.request("/palate/answer", {"offer": pair["offer"], "outcome": outcome})


def test_the_chosen_image_goes_on_and_is_not_asked_about_again(host: Host) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "two", 0x100000, 0x200000), "wanda")
    graph["probe"] = probe(["collect", 0], "wanda")
    run = host.queue(graph)
    (pair,) = waiting(host, "wanda")
    assert pair["outcome"] is None and pair["deadline"] is None
    answer(host, pair, "right")
    (shown,) = host.wait(run)["collect"]["palate_pairs"]
    assert shade(host.probe("wanda")) == [0x200000]
    assert shown == pair | {"outcome": "right", "waiting": False}
    assert host.request("/palate/pairs", {"person": "wanda"})["waits"] == []

    graph["collect"]["inputs"]["timeout"] = 9.0  # ComfyUI runs the node anew; the answer is still there
    assert host.run(graph)["collect"]["palate_pairs"] == [shown]
    assert shade(host.probe("wanda")) == [0x200000]
    assert host.request("/palate/pairs", {"person": "wanda"})["answers"] == 1


def test_a_changed_mind_changes_what_the_next_run_sends_on(host: Host) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "two", 0x110000, 0x210000), "willa")
    graph["probe"] = probe(["collect", 0], "willa")
    run = host.queue(graph)
    (pair,) = waiting(host, "willa")
    answer(host, pair, "left")
    host.wait(run)
    answer(host, pair, "right")
    host.run(graph)
    assert shade(host.probe("willa")) == [0x210000]
    host.request("/palate/undo", {"person": "willa"})  # open again: it is asked again
    run = host.queue(graph)
    assert waiting(host, "willa") == [pair]
    answer(host, pair, "tie")
    host.wait(run)
    assert shade(host.probe("willa")) == [0x110000, 0x210000]


def test_other_nodes_go_on_while_one_waits(host: Host) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "two", 0x120000, 0x220000), "waldo")
    graph["behind"] = probe(["collect", 0], "waldo behind")
    graph["beside"] = image(0x123456)
    graph["probe"] = probe(["beside", 0], "waldo beside")
    run = host.queue(graph)
    (pair,) = waiting(host, "waldo")
    for _ in range(int(SOON * 20)):
        if (host.folder / "probes" / "waldo beside.pt").exists():
            break
        time.sleep(0.05)
    assert shade(host.probe("waldo beside")) == [0x123456]
    assert not (host.folder / "probes" / "waldo behind.pt").exists()
    answer(host, pair, "left")
    host.wait(run)
    assert shade(host.probe("waldo behind")) == [0x120000]


def test_cancel_ends_the_waiting_and_a_later_click_is_an_answer(host: Host) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "two", 0x130000, 0x230000), "wim")
    graph["probe"] = probe(["collect", 0], "wim")
    run = host.queue(graph)
    (pair,) = waiting(host, "wim")
    host.request("/interrupt", {"prompt_id": run})
    with pytest.raises(NodeError, match="interrupted"):
        host.wait(run)
    told = host.request("/palate/pairs", {"person": "wim"})
    assert told["waits"] == [] and [one["offer"] for one in told["pairs"]] == [pair["offer"]]
    answer(host, pair, "left")
    host.run(graph)  # asks nothing
    assert shade(host.probe("wim")) == [0x130000]


def test_two_nodes_wait_at_once_and_get_their_own_choices(host: Host) -> None:
    graph: Graph = {}
    for name, first in (("one", 0x140000), ("two", 0x150000)):
        graph[f"{name} collect"] = wait(colours(graph, name, first, first + 1), "wyn")
        graph[f"{name} probe"] = probe([f"{name} collect", 0], f"wyn {name}")
    run = host.queue(graph)
    pairs = waiting(host, "wyn", 2)
    waits = {one["offers"][0]: one["node"] for one in host.request("/palate/pairs", {"person": "wyn"})["waits"]}
    for pair in pairs:
        answer(host, pair, "left" if waits[pair["offer"]] == "one collect" else "right")
    host.wait(run)
    assert shade(host.probe("wyn one")) == [0x140000] and shade(host.probe("wyn two")) == [0x150001]


def test_when_one_of_two_is_cancelled_both_are_released(host: Host) -> None:
    graph: Graph = {}
    for name, first in (("one", 0x160000), ("two", 0x170000)):
        graph[f"{name} collect"] = wait(colours(graph, name, first, first + 1), "wolf")
    run = host.queue(graph)
    waiting(host, "wolf", 2)
    host.request("/interrupt", {})
    with pytest.raises(NodeError, match="interrupted"):
        host.wait(run)
    assert host.request("/palate/pairs", {"person": "wolf"})["waits"] == []


def test_a_question_that_is_withdrawn_is_not_waited_for(host: Host) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "two", 0x1D0000, 0x2D0000), "wren")
    graph["probe"] = probe(["collect", 0], "wren")
    graph["other"] = wait(colours(graph, "more", 0x1D0001, 0x2D0001), "wren")
    run = host.queue(graph)
    waiting(host, "wren", 2)
    offers = {one["node"]: one["offers"][0] for one in host.request("/palate/pairs", {"person": "wren"})["waits"]}
    told = host.request("/palate/withdraw", {"offer": offers["collect"]})
    assert "other" in [one["node"] for one in told["waits"]]  # all tabs hear this: somebody is still waited for
    answer(host, {"offer": offers["other"]}, "left")
    assert host.wait(run)["collect"]["palate_pairs"] == []
    assert shade(host.probe("wren")) == [0x1D0000, 0x2D0000]


def test_two_runs_in_the_queue_are_asked_one_after_the_other(host: Host) -> None:
    runs = []
    for number in range(2):
        graph: Graph = {}
        first = 0x180000 + 16 * number
        graph["collect"] = wait(colours(graph, "two", first, first + 1), "wade")
        graph["probe"] = probe(["collect", 0], f"wade {number}")
        runs.append(host.queue(graph))
    for run, outcome in zip(runs, ("right", "left"), strict=True):
        (pair,) = waiting(host, "wade")
        (one,) = host.request("/palate/pairs", {"person": "wade"})["waits"]
        assert one["prompt_id"] == run
        answer(host, pair, outcome)
        host.wait(run)
    assert shade(host.probe("wade 0")) == [0x180001] and shade(host.probe("wade 1")) == [0x180010]


@pytest.mark.parametrize(("policy", "sent", "answers"), [("skip", 2, 0), ("tie", 2, 1)])
def test_when_the_time_is_over_all_go_on(host: Host, policy: str, sent: int, answers: int) -> None:
    graph: Graph = {}
    person = f"time {policy}"
    graph["collect"] = wait(colours(graph, "two", 0x190000, 0x290000), person, timeout=0.3, on_timeout=policy)
    graph["probe"] = probe(["collect", 0], person)
    host.run(graph)
    assert len(host.probe(person)) == sent
    told = host.request("/palate/pairs", {"person": person})
    assert (told["answers"], told["open"]) == (answers, 1 - answers)
    if policy == "skip":  # answered later, it counts in the next run, though no image is new
        answer(host, told["pairs"][0], "right")
        host.run(graph)
        assert shade(host.probe(person)) == [0x290000]


def test_the_time_can_end_the_run_with_one_sentence(host: Host) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "two", 0x1A0000, 0x2A0000), "t", timeout=0.3, on_timeout="stop")
    with pytest.raises(NodeError, match=r"Cannot go on: nobody chose within 0\.3 s; expected a choice\. Queue again"):
        host.run(graph)
    assert host.request("/palate/pairs", {"person": "t"})["open"] == 1


@pytest.mark.parametrize(
    ("show", "choice", "sent"),
    [
        ("pairs", "right", [2, 4]),
        ("pairs", "both_bad", None),
        ("pairs", "tie", [1, 2, 3, 4]),
        ("pick the best", "3", [3, 1, 2, 4]),
        ("pick the best", "skip", [1, 2, 3, 4]),
        ("put in order", "4,1,3,2", [4, 1, 3, 2]),
        ("put in order", "both_bad", None),
    ],
)
def test_a_forced_choice_is_an_answer_that_nobody_is_asked_for(
    host: Host, show: str, choice: str, sent: list[int] | None
) -> None:
    graph: Graph = {}
    person = f"{show} {choice}"
    graph["collect"] = wait(colours(graph, "four", 1, 2, 3, 4), person, show=show, forced_choice=choice)
    graph["probe"] = probe(["collect", 0], person)
    shown = host.run(graph)["collect"]["palate_pairs"]
    assert [len(pair["images"]) for pair in shown] == ([2, 2] if show == "pairs" else [4])
    assert shown[0]["outcome"] == {"3": "ranked", "4,1,3,2": "ranked"}.get(choice, choice)
    if sent is None:
        assert not (host.folder / "probes" / f"{person}.pt").exists()
    else:
        assert shade(host.probe(person)) == sent


def test_a_batch_is_ranked_by_a_click_and_comes_out_in_that_order(host: Host) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "four", 5, 6, 7, 8), "rosa", show="put in order")
    graph["probe"] = probe(["collect", 0], "rosa")
    run = host.queue(graph)
    (question,) = waiting(host, "rosa")
    first, second, third, fourth = question["images"]
    with pytest.raises(urllib.error.HTTPError, match="400"):
        answer(host, question, "left")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        host.request("/palate/answer", {"offer": question["offer"], "tiers": [[first], [second]]})
    told = host.request("/palate/answer", {"offer": question["offer"], "tiers": [[fourth], [first, third], [second]]})
    assert told["answers"] == 1 and told["pairs"][0]["tiers"] == [[fourth], [first, third], [second]]
    host.wait(run)
    assert shade(host.probe("rosa")) == [8, 5, 7, 6]


@pytest.mark.parametrize(
    ("batch", "more", "said"),
    [
        (17, {"show": "pick the best"}, "found 17 images; expected at most 16"),
        (3, {"show": "pick the best", "forced_choice": "4"}, "Cannot take '4' as forced_choice for 3 images"),
        (2, {"forced_choice": "up"}, "Cannot take 'up' as forced_choice for 2 images"),
        (1, {"show": "put in order"}, "found 1 image"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(host: Host, batch: int, more: dict[str, Any], said: str) -> None:
    graph: Graph = {}
    graph["collect"] = wait(colours(graph, "many", *range(1, batch + 1)), "nonsense", **more)
    with pytest.raises(NodeError, match=said):
        host.run(graph)
    assert host.request("/palate/pairs", {"person": "nonsense"})["open"] == 0


def test_sides_of_two_sizes_are_sent_on_as_large_as_the_first(host: Host) -> None:
    graph: Graph = {"a": image(0x1B0000), "b": image(0x2B0000, size=96)}
    graph["collect"] = node(
        "PalateCollectPairs", images=["a", 0], images_b=["b", 0], person="sizes", mode="wait", forced_choice="tie"
    )
    graph["probe"] = probe(["collect", 0], "sizes")
    host.run(graph)
    assert tuple(host.probe("sizes").shape) == (2, 64, 64, 3)


def test_a_fit_behind_a_choice_learns_from_it_in_the_same_run(host: Host) -> None:
    graph = playground()
    graph["collect"] = wait(colours(graph, "two", 0x1C0000, 0x00FF00), "finn")
    taste = fit(graph, "finn", ["load", 3])
    graph["fit"]["inputs"]["person"] = ["collect", 1]
    graph["probe answers"] = probe(["fit", 1], "finn answers")
    graph["rank"] = node("PalateRankImages", images=["two 1", 0], taste=taste, encoder=["load", 3])
    graph["probe best"] = probe(["rank", 0], "finn best")
    run = host.queue(graph)
    (pair,) = waiting(host, "finn")
    answer(host, pair, "right")
    host.wait(run)
    assert host.probe("finn answers") == 1 and shade(host.probe("finn best"))[0] == 0x00FF00
    answer(host, pair, "left")  # nothing in the graph is new but the click
    host.run(graph)
    assert shade(host.probe("finn best"))[0] == 0x1C0000


def test_after_a_choice_nothing_runs_again_but_for_a_click(host: Host) -> None:
    graph = playground()
    graph["collect"] = wait(colours(graph, "two", 0x1E0000, 0x00FE00), "flo")
    taste = fit(graph, "flo", ["load", 3])
    graph["fit"]["inputs"]["person"] = ["collect", 1]
    graph["rank"] = node("PalateRankImages", images=["two 1", 0], taste=taste, encoder=["load", 3])
    graph["show"] = node("PreviewImage", images=["rank", 0])
    run = host.queue(graph)
    (pair,) = waiting(host, "flo")
    answer(host, pair, "left")
    host.wait(run)
    host.run(graph)  # the fit once more: the click came after ComfyUI had looked at it
    too = {"c": image(0x1F0000), "d": image(0x2F0000)}
    too["ask"] = node("PalateCollectPairs", images=["c", 0], images_b=["d", 0], person="flo", mode="record")
    (undecided,) = host.run(graph | too)["ask"]["palate_pairs"]
    assert cached(host, graph) >= {"collect", "fit", "rank"}
    answer(host, undecided, "left")
    assert not cached(host, graph) & {"fit", "rank"}


def cached(host: Host, graph: Graph) -> set[str]:
    """Run; which nodes didn't."""
    run = host.queue(graph)
    host.wait(run)
    messages = host.request(f"/history/{run}")[run]["status"]["messages"]
    return set(next(message["nodes"] for kind, message in messages if kind == "execution_cached"))
