"""The routes that the browser calls, in a real ComfyUI: what they give, to whom, and what they refuse."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from comfy_host import Host, NodeError
from graphs import Graph, fit, node, playground, probe
from palate.adapters.comparisons import PreferenceStore

ROUTES = (
    *("answer", "undo", "withdraw", "pairs", "order", "more", "compare"),
    *("people", "state", "slips", "look", "export"),
)


def shown(host: Host, person: str, *colors: int, **more: Any) -> list[dict[str, Any]]:
    """The questions about plain images of these colours."""
    graph: Graph = {
        f"c{number}": node("EmptyImage", width=64, height=64, batch_size=1, color=color)
        for number, color in enumerate(colors)
    }
    link = ["c0", 0]
    for number in range(1, len(colors)):
        graph[f"b{number}"] = node("ImageBatch", image1=link, image2=[f"c{number}", 0])
        link = [f"b{number}", 0]
    graph["collect"] = node("PalateCollectPairs", images=link, person=person, mode="record", **more)
    return host.run(graph)["collect"]["palate_pairs"]


def refused(host: Host, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and sentence of a request that must not be done."""
    with pytest.raises(urllib.error.HTTPError) as error:
        host.request(f"/palate/{path}", body, headers)
    raw = error.value.read()
    return error.value.code, json.loads(raw)["error"] if raw.startswith(b"{") else ""


def test_another_sites_page_can_neither_ask_nor_click_nor_see(host: Host) -> None:
    (pair,) = shown(host, "closed", 0x310000, 0x320000)
    body = {"person": "closed", "offer": pair["offer"], "outcome": "left", "format": "answers"}
    calls = [(route, body) for route in ROUTES] + [(f"image/{pair['left']}", None)]
    foreign = ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:9"})
    for headers in foreign:
        for prefix in ("", "/api"):
            for route, sent in calls:
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    host.request(f"{prefix}/palate/{route}", sent, headers)
    told = host.request("/palate/pairs", {"person": "closed"}, {"Sec-Fetch-Site": "same-origin"})
    assert (told["answers"], told["open"]) == (0, 1)


def test_a_page_whose_name_was_made_to_lead_here_can_neither_ask_nor_see(host: Host) -> None:
    (pair, *_) = shown(host, "rebound", 11, 222)
    rebound = {"Host": "evil.example:8188", "Origin": "http://evil.example:8188", "Sec-Fetch-Site": "same-origin"}
    for path, body in (
        ("/palate/pairs", {"person": "rebound"}),
        ("/palate/answer", {"offer": pair["offer"], "outcome": "left"}),
        (f"/palate/image/{pair['left']}", None),
    ):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            host.request(path, body, rebound)
    assert host.request("/palate/pairs", {"person": "rebound"})["answers"] == 0


def test_a_picture_says_that_other_sites_may_not_embed_it(host: Host) -> None:
    (pair,) = shown(host, "embed", 0x330000, 0x340000)
    with urllib.request.urlopen(f"{host.url}/palate/image/{pair['left']}", timeout=60) as response:
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert response.headers["Content-Type"] == "image/png"
        assert "Access-Control-Allow-Origin" not in response.headers


def test_a_batch_is_one_question_and_one_answer(host: Host) -> None:
    (question,) = shown(host, "batch", 0x350000, 0x360000, 0x370000, show="pick the best")
    best, *others = question["images"]
    assert "left" not in question and question["tiers"] is None
    told = host.request("/palate/answer", {"offer": question["offer"], "tiers": [[best], others]})
    assert (told["answers"], told["open"]) == (1, 0) and told["pairs"][0]["outcome"] == "ranked"
    undone = host.request("/palate/undo", {"person": "batch"})
    assert (undone["answers"], undone["open"], undone["pairs"]) == (0, 1, [question])
    told = host.request("/palate/answer", {"offer": question["offer"], "outcome": "both_bad"})
    assert told["pairs"][0]["outcome"] == "both_bad"


def test_a_click_that_comes_late_leaves_what_was_answered_since(host: Host) -> None:
    (pair,) = shown(host, "late", 0x410000, 0x420000)
    body = {"offer": pair["offer"], "outcome": "left", "seconds": 2.0, "much": True, "again": True}
    assert host.request("/palate/answer", body)["pairs"][0]["outcome"] == "left"
    host.request("/palate/answer", {"offer": pair["offer"], "outcome": "right"})
    told = host.request("/palate/answer", body)
    assert (told["answers"], told["pairs"][0]["outcome"]) == (1, "right")
    (batch,) = shown(host, "late", 0x430000, 0x440000, 0x450000, show="pick the best")
    best, *others = batch["images"]
    for tiers, expected in (([[best], others], best), ([[others[0]], [best, others[1]]], best)):
        told = host.request("/palate/answer", {"offer": batch["offer"], "tiers": tiers, "again": True})
        assert told["answers"] == 2 and told["pairs"][0]["tiers"][0] == [expected]
    status, said = refused(host, "answer", body | {"offer": "gone"})
    assert status == 400 and "there is no offer" in said


def test_too_many_pictures_for_one_look_are_counted(host: Host) -> None:
    images = [{"filename": f"{'a' * 100}_{number}.png", "subfolder": "", "type": "temp"} for number in range(200)]
    status, said = refused(host, "compare", {"person": "many", "images": images})
    assert status == 400 and "Cannot compare 200 pictures at one look; expected 2 to 16" in said
    status, said = refused(host, "compare", {"person": "many", "images": images[:100], "count": 1000})
    assert status == 400 and "Cannot compare 1000 pictures" in said


def test_an_undecided_question_can_be_withdrawn_and_is_asked_anew(host: Host) -> None:
    (pair,) = shown(host, "withdrawn", 0x380000, 0x390000)
    told = host.request("/palate/withdraw", {"offer": pair["offer"]})
    assert (told["withdrawn"], told["open"]) == (pair["offer"], 0)
    for path, body in (("withdraw", {}), ("answer", {"outcome": "left"})):
        status, said = refused(host, path, body | {"offer": pair["offer"]})
        assert status in (400, 404) and said
    (other,) = shown(host, "withdrawn", 0x380000, 0x390000, show="put in order")  # ComfyUI runs the node anew
    assert other["images"] == pair["images"] and other["offer"] != pair["offer"]
    host.request("/palate/answer", {"offer": other["offer"], "outcome": "left"})
    assert host.request("/palate/withdraw", {"offer": other["offer"]})["withdrawn"] is None  # an answer stays


def test_the_sidebar_learns_what_was_learned_and_saves_it(host: Host) -> None:
    graph = playground()
    person = "../sid"
    for number in range(4):
        (pair,) = shown(host, person, 0x400000 + number, 0x00F000 + number)
        host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    told = host.request("/palate/state", {"person": person})
    assert (told["answers"], told["waiting"], told["accuracy"], told["encoder"]) == (4, 0, None, None)
    status, said = refused(host, "export", {"person": person, "format": "taste"})
    assert status == 400 and "Fit Taste" in said

    graph["probe"] = probe([fit(graph, person, ["load", 3])[0], 1], "sid answers")
    host.run(graph)
    told = _fresh(host, person)
    assert told["counted"] == 4 and 0 <= told["low"] <= told["accuracy"] <= told["high"] <= 1 and told["advice"]
    assert told["encoder"] and not told["encoder"].startswith("encoder ")  # the loaded one's name
    assert {"person": person, "answers": 4}.items() <= host.request("/palate/people", {})["people"][0].items()
    for kind in ("taste", "answers"):
        saved = host.request("/palate/export", {"person": person, "format": kind})
        assert saved["subfolder"] == "palate" and "/" not in saved["file"]
        assert (host.folder / "output" / "palate" / saved["file"]).is_file()
    assert refused(host, "export", {"person": person, "format": "pickle"})[0] == 400


def test_clicks_that_make_no_sense_are_one_sentence_and_change_nothing(host: Host) -> None:
    (pair,) = shown(host, "silly", 0x3A0000, 0x3B0000)
    offer = pair["offer"]
    for path, body in (
        ("answer", {"offer": offer, "outcome": "sideways"}),
        ("answer", {"offer": offer, "outcome": ["left"]}),
        ("answer", {"offer": offer, "tiers": [[pair["left"]], [pair["right"]]]}),
        ("answer", {"offer": offer, "tiers": {"best": 1}}),
        ("answer", {"offer": offer, "tiers": [["x"] * 17]}),
        ("answer", {"offer": offer, "outcome": "left", "seconds": "soon"}),
        ("answer", {"offer": {"id": offer}, "outcome": "left"}),
        ("answer", {"offer": "\ud800", "outcome": "left"}),
        ("pairs", {"person": "silly", "before": 7}),
        ("pairs", {"person": "silly", "offers": ["x"] * 201}),
        ("state", {"person": ["silly"]}),
        ("export", {"person": "silly"}),
        ("people", []),
    ):
        status, said = refused(host, path, body)
        assert 400 <= status < 500 and said and "\n" not in said, (path, body)
    told = host.request("/palate/pairs", {"person": "silly"})
    assert (told["answers"], told["pairs"]) == (0, [pair])


def test_a_body_of_ten_megabytes_is_refused(host: Host) -> None:
    try:
        with pytest.raises(urllib.error.HTTPError, match="400"):
            host.request("/palate/answer", {"offer": "x" * 10_000_000})
    except (urllib.error.URLError, ConnectionError) as error:  # refused while it was still being sent
        assert isinstance(getattr(error, "reason", error), ConnectionError)
    assert host.request("/palate/people", {})["people"] is not None


def test_on_a_read_only_disk_a_click_is_one_sentence_and_the_queue_goes_on(host: Host) -> None:
    (pair,) = shown(host, "disk", 0x3C0000, 0x3D0000)
    host.run({"off": node("PalateProbeReadOnly", on=True)})
    try:
        status, said = refused(host, "answer", {"offer": pair["offer"], "outcome": "left"})
        assert status == 500 and "readonly" in said and "\n" not in said
        with pytest.raises(NodeError, match=r"PalateCollectPairs: Cannot use .*readonly"):
            shown(host, "disk", 0x3E0000, 0x3F0000)
        assert host.request("/palate/pairs", {"person": "disk"})["pairs"] == [pair]
    finally:
        host.run({"on": node("PalateProbeReadOnly", on=False)})
    assert host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})["answers"] == 1


def test_two_hundred_answers_from_four_tabs_at_once_are_neither_lost_nor_doubled(host: Host) -> None:
    with PreferenceStore(host.home / "store") as store:
        offers = [store.offer("busy", f"l{number}", f"r{number}", source="comfyui").id for number in range(200)]

    def click(number: int) -> None:
        for outcome in ("left", "left", "right"):  # a double click, and a changed mind
            host.request("/palate/answer", {"offer": offers[number], "outcome": outcome})

    with ThreadPoolExecutor(4) as tabs:
        list(tabs.map(click, range(200)))
    told = host.request("/palate/pairs", {"person": "busy", "offers": offers})
    assert (told["answers"], told["open"]) == (200, 0)
    assert {pair["outcome"] for pair in told["pairs"]} == {"right"} and len(told["pairs"]) == 200


def _fresh(host: Host, person: str) -> dict[str, Any]:
    for _ in range(200):
        told: dict[str, Any] = host.request("/palate/state", {"person": person})
        if told["fresh"]:
            return told
        time.sleep(0.05)
    raise AssertionError("the state stays as it was")
