"""The Collect Pairs node in a real browser: keys, batches, full size, a graph that waits, subgraphs, two tabs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from comfy_host import Host
from palate.adapters.comparisons import PreferenceStore
from test_browser import WAIT, browser, open_graph  # noqa: F401 - the fixture

pytestmark = pytest.mark.browser
RENDERERS = pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
ROOT = "document.querySelector('.palate-pairs')"
BUILD = """([nodes, links]) => {
  const { app, LiteGraph } = window, made = {};
  app.graph.clear();
  for (const [name, type, values, x, y] of nodes) {
    const node = made[name] = LiteGraph.createNode(type);
    node.pos = [x, y];
    app.graph.add(node);
    for (const widget of node.widgets ?? []) if (widget.name in values) {
      widget.value = values[widget.name];
      widget.callback?.(widget.value);
    }
  }
  for (const [from, to] of links) {
    made[from].connect(0, made[to], made[to].inputs.findIndex(input => input.name === 'images'));
  }
  Object.assign(app.canvas.ds, { scale: 1 }).offset = [0, 0];
  app.canvas.setDirty(true, true);
  window.made = made;
}"""
# A digit as French keyboards make it: with Shift.
FRENCH = """digit => document.body.dispatchEvent(new KeyboardEvent("keydown",
  { key: digit, code: `Digit${digit}`, shiftKey: true, bubbles: true, cancelable: true }))"""
VARY = "by => { window.made.images.widgets.find(widget => widget.name === 'variant').value += by }"


def build(page: Any, person: str, count: int = 6, nodes: int = 1, **values: Any) -> None:
    """Images into nodes that collect for this person. What was made for another person is never shown again."""
    shapes = {"width": 96, "height": 64, **values}
    made = [["images", "PalateProbeImages", {"count": count, "variant": sum(person.encode())} | shapes, 80, 120]]
    names = [f"collect{number or ''}" for number in range(nodes)]
    made += [
        [name, "PalateCollectPairs", values | {"person": person}, 420 + 440 * n, 90] for n, name in enumerate(names)
    ]
    page.evaluate(BUILD, [made, [["images", name] for name in names]])
    page.wait_for_selector(".palate-pairs", timeout=WAIT)


def run(page: Any) -> None:
    page.evaluate("() => window.app.queuePrompt(0)")


def asked(page: Any, **data: Any) -> None:
    """Wait until the (first) node asks, with these numbers, and takes what comes."""
    numbers = "".join(f'[data-{key}="{value}"]' for key, value in data.items())
    page.wait_for_selector(f".palate-pairs{numbers} .palate-asking", timeout=WAIT)
    page.wait_for_function("() => window.app.graph && [...document.querySelectorAll('.palate-asking')].length > 0")
    page.wait_for_timeout(450)  # pictures that came by themselves take no click yet


def counts(page: Any, **data: Any) -> None:
    page.wait_for_selector(".palate-pairs" + "".join(f'[data-{k}="{v}"]' for k, v in data.items()), timeout=WAIT)


def offer(page: Any) -> str:
    return str(page.evaluate(f"() => {ROOT}.dataset.offer"))


def press(page: Any, key: str) -> None:
    """Press a key and wait for the next question, or the end."""
    before = offer(page)
    page.keyboard.press(key)
    there = f"{ROOT}.dataset.offer !== before && {ROOT}.querySelector('.palate-asking')"
    page.wait_for_function(f"before => {ROOT}.dataset.open === '0' || ({there})", arg=before, timeout=WAIT)


def outcomes(host: Host, person: str, offers: list[str]) -> list[Any]:
    found = host.request("/palate/pairs", {"person": person, "offers": offers})["pairs"]
    return [{pair["offer"]: pair["outcome"] for pair in found}.get(one) for one in offers]


def idle(host: Host) -> bool:
    queue = host.request("/queue")
    return not queue["queue_running"] and not queue["queue_pending"]


def until(page: Any, true: Any) -> None:
    for _ in range(WAIT // 100):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it never came")


@RENDERERS
def test_keys_answer_while_the_pointer_is_on_the_node_and_only_then(host: Host, browser: Any, vue: bool) -> None:  # noqa: F811
    person = f"keys-{vue}"
    page = open_graph(host, browser, vue)
    build(page, person, count=12)
    run(page)
    asked(page, open=6)
    page.evaluate("() => { window.heard = []; addEventListener('keydown', event => window.heard.push(event.key)) }")
    page.evaluate("() => window.app.canvas.selectNode(window.made.collect)")
    page.locator(".palate-pairs .palate-images").hover()
    offers = []
    for key in ["ArrowLeft", "ArrowRight", "t", "b", "s"]:
        offers.append(offer(page))
        press(page, key)
    counts(page, answers=4, open=1)
    page.keyboard.press("Backspace")  # ComfyUI would delete the node
    page.keyboard.press("y")
    counts(page, answers=4, open=2)
    page.keyboard.press("z")
    counts(page, answers=3, open=3)
    for key, answers in [("x", 4), ("u", 3)]:  # the panel's other keys
        press(page, key)
        counts(page, answers=answers)
    assert page.evaluate("() => window.app.graph.nodes.length") == 2
    assert outcomes(host, person, offers) == ["left", "right", "tie", None, None]
    assert page.evaluate("() => window.heard") == ["y"]

    page.mouse.move(1500, 900)
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("t")
    page.locator(".palate-pairs .palate-images").hover()
    page.evaluate("() => { const field = document.createElement('input'); document.body.append(field); field.focus() }")
    page.keyboard.press("t")  # typed into a field
    assert page.evaluate("() => document.activeElement.value") == "t"
    counts(page, answers=3, open=3)
    page.locator('.palate-pairs [data-act="left"]').focus()  # the focus is enough, too
    page.mouse.move(1500, 900)
    press(page, "Enter")
    counts(page, answers=4, open=2)
    assert page.wrong == []
    page.close()


@RENDERERS
def test_a_batch_is_one_answer(host: Host, browser: Any, vue: bool) -> None:  # noqa: F811
    page = open_graph(host, browser, vue)
    build(page, f"best-{vue}", count=4, show="pick the best")
    run(page)
    asked(page, open=1)
    page.locator('.palate-picture[data-index="2"]').click()
    counts(page, open=0, answers=1)
    assert places(host, f"best-{vue}", offer(page)) == [[3], [1, 2, 4]]
    page.locator(".palate-pairs .palate-images").hover()
    for again in ("click", "key", "french"):  # much better, but for the last
        page.keyboard.press("z")
        asked(page, open=1, answers=0)
        if again == "click":
            page.locator('.palate-picture[data-index="2"]').click(modifiers=["Shift"])
        elif again == "key":
            page.keyboard.press("Shift+Digit1")
        else:
            page.evaluate(FRENCH, "1")
        counts(page, open=0, answers=1)
        with PreferenceStore(host.home / "store") as store:
            (ranking,) = store.rankings(f"best-{vue}")
        assert (ranking.much, ranking.best) == (again != "french", ranking.images[2 if again == "click" else 0])

    build(page, f"order-{vue}", count=5, show="put in order")
    run(page)
    asked(page, open=1, answers=0)
    page.locator(".palate-pairs .palate-images").hover()
    for key in ["3", "1", "z", "5", "2", "4"]:  # one step back in between; the last one is clear
        page.keyboard.press(key)
    counts(page, open=0, answers=1)
    assert places(host, f"order-{vue}", offer(page)) == [[3], [5], [2], [4], [1]]

    page.keyboard.press("z")
    asked(page, open=1, answers=0)
    page.keyboard.press("2")
    page.keyboard.press("Enter")  # the others come last
    counts(page, open=0, answers=1)
    assert places(host, f"order-{vue}", offer(page)) == [[2], [1, 3, 4, 5]]
    page.keyboard.press("z")
    asked(page, open=1, answers=0)
    page.locator('.palate-pairs [data-act="both_bad"]').click()
    counts(page, open=0, answers=1)
    assert outcomes(host, f"order-{vue}", [offer(page)]) == ["both_bad"]
    assert page.wrong == []
    page.close()


def places(host: Host, person: str, one: str) -> list[list[int]]:
    pair = host.request("/palate/pairs", {"person": person, "offers": [one]})["pairs"][0]
    return [sorted(pair["images"].index(image) + 1 for image in tier) for tier in pair["tiers"]]


# Two keys at once: what the first dialog tells of its end must not end the second one.
CLOSED_AND_OPENED = """async () => {
    const press = (key) =>
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    press("f"), press("f");
    const open = document.querySelector("dialog.palate-viewer");
    await new Promise((resolve) => setTimeout(resolve, 200));
    return open !== null && open.isConnected;
}"""


def test_full_size_zooms_both_together_flips_and_answers(host: Host, browser: Any) -> None:  # noqa: F811
    page = open_graph(host, browser, vue=False)
    build(page, "full", count=6)
    run(page)
    asked(page, open=3)
    page.locator('.palate-pairs [data-act="full"]').click()
    panes = page.locator("dialog.palate-viewer .palate-pane")
    box = panes.first.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    zoomed = page.evaluate("() => [...document.querySelectorAll('.palate-pane img')].map(one => one.style.transform)")
    assert zoomed[0] == zoomed[1] and "scale(2.05" in zoomed[0]
    page.mouse.down()
    page.mouse.move(box["x"] - 90, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    moved = page.evaluate("() => [...document.querySelectorAll('.palate-pane img')].map(one => one.style.transform)")
    assert moved[0] == moved[1] != zoomed[0]

    page.keyboard.press("Space")
    assert [panes.nth(n).is_visible() for n in (0, 1)] == [True, False]
    page.keyboard.press("Space")
    assert [panes.nth(n).is_visible() for n in (0, 1)] == [False, True]
    page.keyboard.down("Space")  # held while the answer is given: the next question begins with its own first picture
    page.keyboard.press("ArrowRight")
    counts(page, answers=1, open=2)
    page.wait_for_timeout(400)
    page.keyboard.up("Space")
    assert [panes.nth(n).is_visible() for n in (0, 1)] == [True, False]
    page.keyboard.press("v")
    assert [panes.nth(n).is_visible() for n in (0, 1)] == [True, True]
    for _ in range(20):  # the focus stays inside
        page.keyboard.press("Tab")
        inside = (
            "() => ['DIALOG', 'BODY'].includes((document.activeElement.closest('dialog') ?? document.body).tagName)"
        )
        assert page.evaluate(inside)
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.palate-viewer", state="detached", timeout=WAIT)
    page.keyboard.press("f")  # the focus is where it was
    page.wait_for_selector("dialog.palate-viewer", timeout=WAIT)
    assert page.evaluate(CLOSED_AND_OPENED)
    page.locator('dialog.palate-viewer [data-act="left"]').click(modifiers=["Shift"])
    asked(page, answers=2, open=1)
    page.keyboard.press("b")
    page.wait_for_selector("dialog.palate-viewer", state="detached", timeout=WAIT)  # nothing more to see
    counts(page, answers=3, open=0)
    # Here Shift and an arrow move the pictures: who answers by a key couldn't say how much better.
    with PreferenceStore(host.home / "store") as store:
        found = [(one.outcome, one.much) for one in store.comparisons("full")]
    assert found == [("right", None), ("left", True), ("both_bad", None)]
    assert page.wrong == []
    page.close()


@RENDERERS
def test_a_graph_that_waits_says_so_and_goes_on(host: Host, browser: Any, vue: bool) -> None:  # noqa: F811
    page = open_graph(host, browser, vue)
    build(page, f"wait-{vue}", count=4, mode="wait", timeout=300)
    run(page)
    page.wait_for_selector(".palate-waiting .palate-asking", timeout=WAIT)
    assert re.fullmatch(r"The graph waits for you 4:\d\d", page.locator(".palate-prompt").inner_text())
    saved = page.evaluate("() => window.app.graph.serialize()")
    page.reload(wait_until="domcontentloaded")  # in the middle
    page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=WAIT)
    page.wait_for_timeout(1500)  # ComfyUI loads something of its own first
    page.wrong.clear()  # of requests that were cut off
    page.evaluate("workflow => window.app.loadGraphData(workflow)", saved)
    page.wait_for_selector(".palate-waiting .palate-asking", timeout=WAIT)
    asked(page, open=2)
    page.locator('.palate-pairs [data-act="left"]').click()
    asked(page, open=1)
    assert not idle(host)
    page.locator('.palate-pairs [data-act="right"]').click()
    until(page, lambda: idle(host))

    build(page, f"two-{vue}", count=2, mode="wait")  # two prompts in the queue
    run(page)
    page.wait_for_selector(".palate-waiting .palate-asking", timeout=WAIT)
    page.evaluate(VARY, 500)
    run(page)
    until(page, lambda: len(host.request("/queue")["queue_pending"]) == 1)
    asked(page)
    first = offer(page)
    page.locator('.palate-pairs [data-act="left"]').click()
    page.wait_for_function(f"first => {ROOT}.dataset.offer !== first", arg=first, timeout=WAIT)
    page.wait_for_selector(".palate-waiting .palate-asking", timeout=WAIT)
    assert outcomes(host, f"two-{vue}", [first, offer(page)]) == ["left", None]
    host.request("/interrupt", {})  # Cancel: the question stays, for later
    until(page, lambda: idle(host))
    page.wait_for_selector(".palate-pairs:not(.palate-waiting) .palate-asking", timeout=WAIT)
    asked(page, open=1, answers=1)
    page.locator('.palate-pairs [data-act="tie"]').click()
    counts(page, open=0, answers=2)
    assert page.wrong == []
    page.close()


@RENDERERS
def test_inside_a_subgraph(host: Host, browser: Any, vue: bool) -> None:  # noqa: F811
    page = open_graph(host, browser, vue)
    build(page, f"sub-{vue}", count=4)
    page.evaluate("() => { window.sub = window.app.graph.convertToSubgraph(new Set(window.app.graph.nodes)) }")
    inner = "window.sub.subgraph.nodes.find(node => node.comfyClass === 'PalateCollectPairs')"
    run(page)
    page.wait_for_function(f"() => {inner}.palate.deck.open.length === 2", timeout=WAIT)
    page.evaluate("() => window.app.canvas.openSubgraph(window.sub.subgraph, window.sub.node)")
    asked(page, open=2)
    page.locator('.palate-pairs [data-act="left"]').click()
    counts(page, open=1, answers=1)

    page.evaluate(f"() => {{ {inner}.widgets.find(widget => widget.name === 'mode').value = 'wait' }}")
    images = "window.sub.subgraph.nodes.find(node => node.type === 'PalateProbeImages')"
    page.evaluate(f"() => {{ {images}.widgets.find(widget => widget.name === 'variant').value += 500 }}")
    run(page)
    page.wait_for_selector(".palate-waiting .palate-asking", timeout=WAIT)
    page.wait_for_timeout(450)
    page.locator(".palate-pairs .palate-images").hover()
    press(page, "ArrowRight")
    press(page, "ArrowLeft")
    until(page, lambda: idle(host))
    counts(page, open=1, answers=3)
    assert page.wrong == []
    page.close()


def test_two_tabs_and_the_same_node_twice_never_double_a_click(host: Host, browser: Any) -> None:  # noqa: F811
    one = open_graph(host, browser, vue=False)
    build(one, "tabs", count=6, nodes=2)
    run(one)
    asked(one, open=3)
    one.wait_for_function(
        "() => document.querySelectorAll('.palate-pairs[data-open=\"3\"]').length === 2", timeout=WAIT
    )
    one.locator('.palate-pairs [data-act="left"]').first.click()
    both = '() => document.querySelectorAll(\'.palate-pairs[data-open="2"][data-answers="1"]\').length === 2'
    one.wait_for_function(both, timeout=WAIT)

    other = open_graph(host, browser, vue=True)
    build(other, "tabs", count=6)
    asked(other, open=2)
    same = """() => {
      const { deck } = window.made.collect.palate;
      deck.put(deck.open.sort((a, b) => a.offer < b.offer ? -1 : 1));
    }"""
    for page in (one, other):
        page.evaluate(same)
    until(one, lambda: offer(one) == offer(other))
    one.wait_for_timeout(450)
    clicked = offer(one)
    for page, place in ((one, 0), (other, 1)):  # at the same time: the later one is right
        page.evaluate("place => window.made.collect.palate.answering.pick(place)", place)
    counts(one, open=1, answers=2)
    counts(other, open=1, answers=2)
    assert outcomes(host, "tabs", [clicked])[0] in ("left", "right")
    other.evaluate("() => window.made.collect.palate.answering.act('undo')")
    counts(one, open=2, answers=1)
    counts(other, open=2, answers=1)
    assert one.wrong == other.wrong == []
    one.close()
    other.close()


def test_a_server_that_is_away_loses_and_doubles_nothing(host: Host, browser: Any) -> None:  # noqa: F811
    page = open_graph(host, browser, vue=False)
    build(page, "away", count=8)
    run(page)
    asked(page, open=4)
    page.locator(".palate-pairs .palate-images").hover()
    first = offer(page)
    page.route("**/palate/answer", lambda route: route.abort())
    page.route("**/palate/pairs", lambda route: route.abort())
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".palate-prompt.palate-wrong", timeout=WAIT)
    said = "The server doesn't answer. Your answer is kept and sent when it is back."
    assert page.locator(".palate-prompt").inner_text() == said
    page.wait_for_function(f"first => {ROOT}.dataset.offer !== first", arg=first, timeout=WAIT)
    asked(page, open=3, answers=0)
    page.unroute("**/palate/answer")
    page.unroute("**/palate/pairs")
    counts(page, open=3, answers=1)
    assert outcomes(host, "away", [first]) == ["left"]
    assert page.locator(".palate-prompt.palate-wrong").count() == 0

    second = offer(page)
    page.route("**/palate/answer", lambda route: (route.fetch(), route.abort()))  # it arrives; what it says is lost
    with page.expect_request("**/palate/answer"):
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".palate-prompt.palate-wrong", timeout=WAIT)
    page.unroute("**/palate/answer")
    counts(page, open=2, answers=2)
    assert outcomes(host, "away", [second]) == ["left"]

    third = offer(page)
    page.route("**/palate/answer", lambda route: route.abort())
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".palate-prompt.palate-wrong", timeout=WAIT)
    keys = "() => Object.keys(localStorage).filter((key) => key.startsWith('Palate.Kept.')).length"
    assert page.evaluate(keys) == 1
    page.reload(wait_until="domcontentloaded")
    page.unroute("**/palate/answer")
    page.wait_for_function(f"() => ({keys})() === 0", timeout=WAIT)
    assert outcomes(host, "away", [third]) == ["right"]
    page.close()


def test_a_connection_that_breaks_makes_a_page_look_again(host: Host, browser: Any) -> None:  # noqa: F811
    page = open_graph(host, browser, vue=False)
    build(page, "broken", count=6)
    run(page)
    asked(page, open=3)
    page.locator(".palate-pairs .palate-images").hover()
    press(page, "ArrowLeft")
    counts(page, open=2, answers=1)

    page.evaluate("() => window.app.api.socket.close()")  # answers need no socket; what was missed is fetched
    host.request("/palate/undo", {"person": "broken"})
    page.wait_for_function(f"() => {ROOT}.dataset.open === '3'", timeout=WAIT)
    counts(page, answers=0)
    page.close()


def test_many_answers_in_a_row_are_all_there(host: Host, browser: Any) -> None:  # noqa: F811
    page = open_graph(host, browser, vue=True)
    build(page, "many", count=64, width=32, height=32)
    run(page)
    asked(page, open=32)
    page.locator(".palate-pairs .palate-images").hover()
    given = []
    for number in range(30):
        key, outcome = [("ArrowLeft", "left"), ("ArrowRight", "right"), ("t", "tie"), ("b", "both_bad")][number % 4]
        given.append((offer(page), outcome))
        press(page, key)
    counts(page, open=2, answers=30)
    assert len(dict(given)) == 30
    assert outcomes(host, "many", [one for one, _ in given]) == [outcome for _, outcome in given]
    page.evaluate("() => { for (let n = 0; n < 9; n += 1) window.made.collect.palate.answering.act('left') }")
    counts(page, open=0, answers=32)
    assert page.wrong == []
    page.close()


@RENDERERS
def test_it_fits_the_node_and_survives_undo(host: Host, browser: Any, vue: bool) -> None:  # noqa: F811
    page = open_graph(host, browser, vue)
    build(page, f"size-{vue}", count=2)
    run(page)
    asked(page, open=1)
    for size in ([400, 560], [900, 760], [260, 300]):
        page.evaluate("size => { window.made.collect.setSize(size); window.app.canvas.setDirty(true, true) }", size)
        page.wait_for_timeout(400)
        boxes = "one => Object.values(one.getBoundingClientRect().toJSON()).slice(4)"  # top, right, bottom, left
        parts = f"[{ROOT}, ...document.querySelectorAll('.palate-pairs > *')]"
        rows = page.evaluate(f"() => {parts}.map({boxes})")
        (top, right, bottom, left), *inner = rows
        inside = all(left <= x and top <= t + 1 and r <= right and b <= bottom for t, r, b, x in inner)
        assert inside, (size, rows)
        if not vue:
            node = page.evaluate("() => [...window.made.collect.pos, ...window.made.collect.size]")
            assert bottom - top <= node[3] and right - left <= node[2]
    page.evaluate("() => { window.made.collect.collapse() }")
    page.wait_for_selector(".palate-pairs", state="hidden", timeout=WAIT)
    page.evaluate("() => { window.made.collect.collapse() }")
    asked(page, open=1)

    saved = page.evaluate("() => window.app.graph.serialize()")
    for _ in range(2):  # what undo does, too
        page.evaluate("workflow => window.app.loadGraphData(workflow)", saved)
        asked(page, open=1)
        mine = "window.app.graph.nodes.find(node => node.comfyClass === 'PalateCollectPairs').palate.element"
        page.wait_for_function(f"() => {mine}.isConnected", timeout=WAIT)
    assert page.wrong == []
    page.close()


def test_a_removed_node_lets_go_of_its_pictures(host: Host, browser: Any) -> None:  # noqa: F811
    page = open_graph(host, browser, vue=True)
    build(page, "removed")
    run(page)
    asked(page, open=3)
    held = "() => [window.gone.pictures.kept.size, window.gone.root.querySelectorAll('img').length]"
    page.evaluate("() => { window.gone = window.made.collect.palate.answering }")
    assert page.evaluate(held) == [3, 2]
    # ComfyUI's Vue renderer keeps the elements of removed nodes for as long as the page is open.
    page.evaluate("() => window.app.graph.remove(window.made.collect)")
    page.evaluate("() => window.gone.deck.refresh()")  # a reply that was on its way
    assert page.evaluate(held) == [0, 0]
    assert page.wrong == []
    page.close()
