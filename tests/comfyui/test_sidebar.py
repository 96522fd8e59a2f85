"""Palate's tab in ComfyUI's sidebar, in a real browser: questions of earlier runs, by keys; people, files, news."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_host import Host
from graphs import Graph, node
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.playground import playground_words
from palate.adapters.taste.ceiling import SECOND_LOOK
from PIL import Image
from test_browser import WAIT, browser, open_graph  # noqa: F401 - the fixture

pytestmark = pytest.mark.browser
TOGGLE = "() => window.app.extensionManager.command.execute('Workspace.ToggleSidebarTab.palate')"
THERE = "() => window.app.extensionManager.getSidebarTabs().some(({ id }) => id === 'palate')"
BADGE = "() => window.app.extensionManager.getSidebarTabs().find(({ id }) => id === 'palate').iconBadge"
STRIP = "() => [...document.querySelectorAll('.palate-strip img')].filter((one) => one.naturalWidth).length === 6"
OURS = re.compile(r"/extensions/palate/|/palate/")


def images(store: PreferenceStore, person: str, count: int) -> list[str]:
    """Plain pictures that nobody else has, with vectors."""
    draw = np.random.default_rng(sum(person.encode()))
    ids = [store.add_image(Image.new("RGB", (64, 64), tuple(draw.integers(0, 256, 3)))) for _ in range(count)]
    store.put_vectors("e" * 64, {id_: draw.normal(size=8).astype(np.float32) for id_ in ids})
    return ids


def ask(host: Host, person: str, count: int, answered: int = 0, source: str = "comfyui") -> list[str]:
    """Questions of an earlier run; the offers' ids, the one that is asked first coming first."""
    with PreferenceStore(host.home / "store") as store:
        ids = images(store, person, 2 * max(count, answered))
        for number in range(answered):
            store.add(Comparison(person, ids[2 * number], ids[2 * number + 1], "left", source=source))
        pairs = [store.offer(person, ids[2 * n], ids[2 * n + 1], source="comfyui").id for n in range(count)]
    return pairs[::-1]


def told(host: Host, person: str, offers: list[str] | None = None) -> Any:
    body = {"person": person} | ({} if offers is None else {"offers": offers})
    return host.request("/palate/pairs", body)


def outcomes(host: Host, person: str, offers: list[str]) -> list[str | None]:
    found = {pair["offer"]: pair["outcome"] for pair in told(host, person, offers)["pairs"]}
    return [found.get(offer) for offer in offers]


def open_tab(host: Host, browser: Any, person: str) -> Any:  # noqa: F811
    """A page of ComfyUI with the tab open on this person; what goes wrong with our files is kept in `wrong`."""
    page = open_graph(host, browser, vue=False)
    page.evaluate("person => localStorage.setItem('Palate.Person', person)", person)
    page.on("console", lambda said: ours(page, said))
    page.reload(wait_until="domcontentloaded")
    show_tab(page)
    return page


def show_tab(page: Any) -> None:
    page.wait_for_function("() => window.app?.graph && window.app?.extensionManager?.getSidebarTabs", timeout=WAIT)
    page.wait_for_function(THERE, timeout=WAIT)
    page.evaluate(TOGGLE)
    page.wait_for_selector(".palate-tab[data-person]:not([data-person=''])", timeout=WAIT)


def ours(page: Any, said: Any) -> None:
    if said.type == "error" and OURS.search(said.text + said.location.get("url", "")):
        page.wrong.append(said.text)


def state(page: Any, **data: Any) -> None:
    """Wait until the tab shows these numbers."""
    page.wait_for_selector(".palate-tab" + "".join(f'[data-{k}="{v}"]' for k, v in data.items()), timeout=WAIT)


def shown(page: Any, offer: str) -> None:
    page.wait_for_selector(f'.palate-tab .palate-pairs[data-offer="{offer}"]', timeout=WAIT)


def test_keys_answer_what_earlier_runs_left_open(host: Host, browser: Any) -> None:  # noqa: F811
    first, second, third = offers = ask(host, "sid", 3)
    page = open_tab(host, browser, "sid")
    state(page, waiting=3, answers=0)
    assert page.evaluate(BADGE) == "3"
    for offer, key, waiting in [(first, "ArrowLeft", 2), (second, "s", 1), (third, "b", 0)]:
        shown(page, offer)
        page.keyboard.press(key)
        state(page, waiting=waiting)
    page.wait_for_function(f"() => ({BADGE})() === ''", timeout=WAIT)
    assert "All answered" in page.locator(".palate-tab").inner_text()
    state(page, answers=2)  # a skip is none
    assert outcomes(host, "sid", offers) == ["left", "skip", "both_bad"]

    page.keyboard.press("z")
    state(page, waiting=1, answers=1)
    shown(page, third)
    page.keyboard.press("Alt+Shift+ArrowRight")  # a command; the plain keys are not ComfyUI's
    state(page, waiting=0, answers=2)
    assert outcomes(host, "sid", offers) == ["left", "skip", "right"]
    page.evaluate(TOGGLE)  # closed: the command has nothing to press
    page.keyboard.press("Alt+Shift+Backspace")
    (fourth,) = ask(host, "sid", 1)
    page.reload(wait_until="domcontentloaded")
    tabs = "window.app?.extensionManager?.getSidebarTabs?.()"
    page.wait_for_function(f"{tabs}.some(({{ id, iconBadge }}) => id === 'palate' && iconBadge === '1')", timeout=WAIT)
    show_tab(page)  # what is known already can be answered at once
    shown(page, fourth)
    page.wait_for_function("() => document.activeElement.matches('.palate-tab .palate-pairs')", timeout=WAIT)
    page.evaluate("() => document.body.appendChild(document.createElement('textarea')).focus()")
    page.keyboard.press("Alt+Shift+ArrowLeft")  # selects a word on a Mac
    page.evaluate("() => document.querySelector('.palate-tab .palate-pairs').focus()")
    page.keyboard.press("t")
    state(page, waiting=0, answers=3)
    assert outcomes(host, "sid", [fourth]) == ["tie"]
    assert page.wrong == []
    page.close()


def test_a_click_in_one_tab_shows_in_the_other_and_counts_once(host: Host, browser: Any) -> None:  # noqa: F811
    offers = ask(host, "tabea", 3, answered=12, source="panel:random")
    one, other = open_tab(host, browser, "tabea"), open_tab(host, browser, "tabea")
    for page in (one, other):
        state(page, waiting=3, answers=12)
        page.wait_for_selector(".palate-tab .palate-plot", timeout=WAIT)
    one.locator(".palate-learned", has_text="You preferred the left picture in 100").wait_for(timeout=WAIT)  # of 12
    shown(one, offers[0])
    offers = host.request("/palate/order", {"person": "tabea", "offers": offers})["order"]
    one.locator(".palate-tab .palate-picture").first.click()
    state(other, waiting=2, answers=13)
    shown(other, offers[1])
    other.locator(".palate-figure", has_text="13 answers").wait_for(timeout=WAIT)
    assert outcomes(host, "tabea", offers) == ["left", None, None] and told(host, "tabea")["answers"] == 13

    other.locator(".palate-ask footer button").click()  # forget the question
    state(one, waiting=1, answers=13)
    assert outcomes(host, "tabea", offers) == ["left", None, None]
    assert [pair["offer"] for pair in told(host, "tabea")["pairs"]] == [offers[2]]
    order = host.request("/palate/order", {"person": "tabea", "offers": offers})["order"]
    assert order == [offers[2]]  # one is decided, one is forgotten
    assert one.wrong == [] and other.wrong == []
    one.close()
    other.close()


def test_the_newest_question_comes_first_then_those_that_teach_most_and_then_new_ones(
    host: Host,
    browser: Any,  # noqa: F811
) -> None:
    with PreferenceStore(host.home / "store") as store:
        ends = [
            [store.add_image(Image.new("RGB", (64, 64), (50 + 60 * n, side, 90))) for side in (20, 240)]
            for n in range(3)
        ]
        vectors = {end: (1 - 2 * side) * np.eye(8)[n] for n, two in enumerate(ends) for side, end in enumerate(two)}
        store.put_vectors("f" * 64, vectors)
        for _ in range(12):
            store.add(Comparison("tessa", *ends[0], "left", prompt="a fox", source="comfyui"))
        asked = [(ends[1][0], ends[0][0]), ends[2], ends[0], (ends[0][1], ends[1][0])]  # known least: the third axis
        offers = [store.offer("tessa", *pair, prompt="a fox", source="comfyui").id for pair in asked]
    page = open_tab(host, browser, "tessa")
    for waiting, offer in ((4, offers[3]), (3, offers[1])):
        state(page, waiting=waiting, answers=16 - waiting)
        shown(page, offer)
        page.wait_for_timeout(500)
        page.keyboard.press("ArrowLeft")
    for waiting in (2, 1):
        state(page, waiting=waiting, answers=16 - waiting)
        page.wait_for_timeout(500)
        page.keyboard.press("t")
    state(page, waiting=0, answers=16)
    page.get_by_role("button", name="Ask me more").click()
    for answers in (16, 17):  # another one comes by itself
        state(page, waiting=1, answers=answers)
        (pair,) = told(host, "tessa")["pairs"]
        shown(page, pair["offer"])
        assert pair["prompt"] == "a fox" and {pair["left"], pair["right"]} <= set(vectors)
        assert {pair["left"], pair["right"]} not in [set(two) for two in asked]
        page.wait_for_timeout(500)
        page.keyboard.press("Shift+ArrowRight" if answers == 16 else "ArrowRight")
    state(page, waiting=1, answers=18)
    with PreferenceStore(host.home / "store") as store:
        assert [one.much for one in store.comparisons("tessa")[-6:]] == [False, False, None, None, True, False]
    assert page.wrong == []
    page.close()


def test_people_and_files(host: Host, browser: Any) -> None:  # noqa: F811
    ask(host, "pia", 2, answered=6)
    ask(host, "paul", 1, answered=3)
    page = open_tab(host, browser, "pia")
    state(page, waiting=2)
    page.wait_for_function(STRIP, timeout=WAIT)
    row = page.locator(".palate-person", has_text="paul")
    row.wait_for(timeout=WAIT)
    assert "3 answered" in row.inner_text() and "1 waiting" in row.inner_text()
    row.click()
    state(page, person="paul", waiting=1, answers=3)
    page.locator(".palate-progress", has_text="0 of 1").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Save answers").click()
    page.wait_for_function("() => /palate\\/paul\\.jsonl/.test(document.querySelector('.palate-files').innerText)")
    saved = host.folder / "output" / "palate" / "paul.jsonl"
    assert all(isinstance(json.loads(line), dict) for line in saved.read_text().splitlines())
    page.get_by_role("button", name="Save taste").click()
    page.wait_for_function(
        "() => /palate\\/paul\\.safetensors/.test(document.querySelector('.palate-files').innerText)"
    )
    assert Path(host.folder / "output" / "palate" / "paul.safetensors").is_file()
    assert page.wrong == []
    page.close()


def test_a_long_name_stays_inside_and_is_text(host: Host, browser: Any) -> None:  # noqa: F811
    name = "<img src=x onerror='window.ran = true'>" + 300 * "w"
    ask(host, name, 1)
    page = open_tab(host, browser, name)
    state(page, waiting=1)
    page.locator(".palate-tab header", has_text="<img src=x").wait_for(timeout=WAIT)
    assert page.evaluate("() => (tab => tab.scrollWidth <= tab.clientWidth)(document.querySelector('.palate-tab'))")
    assert page.evaluate("() => window.ran === undefined") and page.wrong == []
    page.close()


def test_a_click_is_kept_while_the_server_is_away(host: Host, browser: Any) -> None:  # noqa: F811
    first, second = offers = ask(host, "kim", 2)
    page = open_tab(host, browser, "kim")
    shown(page, first)
    sentence = page.locator(".palate-tab .palate-prompt.palate-wrong")
    page.route("**/palate/answer", lambda route: route.abort())
    page.keyboard.press("ArrowLeft")
    sentence.wait_for(timeout=WAIT)
    assert sentence.inner_text() == "The server doesn't answer. Your answer is kept and sent when it is back."
    shown(page, second)
    page.unroute("**/palate/answer")
    sentence.wait_for(state="detached", timeout=WAIT)
    assert outcomes(host, "kim", offers) == ["left", None]
    page.close()


def test_what_goes_wrong_is_one_sentence_and_the_click_can_be_made_again(host: Host, browser: Any) -> None:  # noqa: F811
    first, second, third = offers = ask(host, "wilma", 3)
    page = open_tab(host, browser, "wilma")
    shown(page, first)
    sentence = page.locator(".palate-tab .palate-prompt.palate-wrong")
    refused = {"error": "Cannot write: the disk is read-only."}
    page.route("**/palate/answer", lambda route: route.fulfill(status=500, json=refused))
    page.wait_for_timeout(500)  # a question that came by itself hears no click at first
    page.keyboard.press("ArrowLeft")
    page.locator(".palate-wrong", has_text="read-only").wait_for(timeout=WAIT)
    page.unroute("**/palate/answer")
    assert outcomes(host, "wilma", offers) == [None] * 3
    page.wait_for_timeout(500)
    page.keyboard.press("ArrowLeft")
    shown(page, second)

    with PreferenceStore(host.home / "store") as store:
        store.withdraw(second)  # elsewhere, and nobody was told
    page.keyboard.press("ArrowRight")
    sentence.wait_for(timeout=WAIT)
    shown(page, third)
    page.wait_for_timeout(500)
    page.keyboard.press("ArrowRight")
    state(page, waiting=0, answers=2)
    assert outcomes(host, "wilma", offers) == ["left", None, "right"]
    page.close()


def until_answered(host: Host, person: str, answers: int, press: Callable[[], None]) -> None:
    """Answer as a person does; what comes within 0.4 s of new pictures counts for nothing: then press again."""
    for _ in range(20):
        time.sleep(0.6)
        press()
        for _ in range(60):
            if host.request("/palate/pairs", {"person": person})["answers"] == answers:
                return
            time.sleep(0.05)
    raise AssertionError("no answer arrived")


def test_a_graph_that_waits_is_answered_in_the_sidebar(host: Host, browser: Any) -> None:  # noqa: F811
    for one in [*(f"one of many, {number}" for number in range(25)), "somebody"]:
        ask(host, one, 1)
    page = open_tab(host, browser, "somebody")
    state(page, person="somebody", waiting=1)
    graph: Graph = {f"{n}": node("EmptyImage", width=64, height=64, batch_size=1, color=99 + n) for n in range(2)}
    graph["two"] = node("ImageBatch", image1=["0", 0], image2=["1", 0])
    graph["collect"] = node("PalateCollectPairs", images=["two", 0], person="waltraud", mode="wait")
    run = host.queue(graph)
    notice = page.locator(".palate-notice", has_text="waltraud")
    notice.wait_for(timeout=WAIT)
    page.reload(wait_until="domcontentloaded")  # in the middle of it
    show_tab(page)
    notice.get_by_role("button").click(timeout=WAIT)
    state(page, person="waltraud", waiting=1)
    page.locator(".palate-tab .palate-waiting").wait_for(timeout=WAIT)
    page.wait_for_function(f"() => ({BADGE.replace('iconBadge', 'tooltip')})().includes('graph')", timeout=WAIT)
    until_answered(host, "waltraud", 1, page.locator(".palate-tab .palate-picture").nth(1).click)
    (pair,) = host.wait(run)["collect"]["palate_pairs"]
    assert pair["outcome"] == "right"
    state(page, person="waltraud", waiting=0, answers=1)

    (older,) = ask(host, "waltraud", 1)
    page.evaluate(TOGGLE)
    page.reload(wait_until="domcontentloaded")
    show_tab(page)
    shown(page, older)
    graph["collect"]["inputs"]["prompt"] = "the same again"
    run = host.queue(graph)  # while somebody looks at another question
    page.locator(".palate-notice", has_text="your choice").wait_for(timeout=WAIT)
    page.wait_for_timeout(1500)  # until the end of the run's beginning was looked into
    shown(page, older)
    page.locator(".palate-notice button").click()
    page.locator(".palate-tab .palate-waiting").wait_for(timeout=WAIT)
    until_answered(host, "waltraud", 2, lambda: page.keyboard.press("ArrowLeft"))
    host.wait(run)
    shown(page, older)
    state(page, waiting=1, answers=2)
    assert page.wrong == []
    page.close()


def test_the_tab_speaks_comfyuis_language_and_english_where_a_text_is_missing(host: Host, browser: Any) -> None:  # noqa: F811
    english = host.request("/i18n")["en"]
    book = {"en": english, "ko": {"palate": {"tab": {"all_answered": "모두 답했습니다"}}}}
    ask(host, "hana", 0, answered=2)
    host.request("/settings", {"Comfy.Locale": "ko"})
    try:
        page = open_graph(host, browser, vue=False)
        page.route("**/i18n", lambda route: route.fulfill(json=book))
        page.evaluate("localStorage.setItem('Palate.Person', 'hana')")
        page.reload(wait_until="domcontentloaded")
        show_tab(page)
        page.locator(".palate-tab", has_text="모두 답했습니다").wait_for(timeout=WAIT)
        assert english["palate"]["tab"]["taste"] in page.locator(".palate-tab").inner_text()
        page.evaluate("() => window.app.extensionManager.setting.set('Comfy.Locale', 'en')")
        page.locator(".palate-tab", has_text=english["palate"]["tab"]["all_answered"]).wait_for(timeout=WAIT)
        assert page.wrong == []
        page.close()
    finally:
        host.request("/settings", {"Comfy.Locale": "en"})


def like_the_first_axis(host: Host, person: str, slips: list[int]) -> None:
    """Forty answers for what points along the first axis, but for these; and words, "night" along it."""
    draw = np.random.default_rng(1)
    with PreferenceStore(host.home / "store") as store:
        for number in range(40):
            better, worse = (store.add_image(Image.new("RGB", (64, 64), (number, side, 7))) for side in (200, 20))
            ends = {better: (4, *draw.normal(size=7)), worse: (-4, *draw.normal(size=7))}
            store.put_vectors("d" * 64, {id_: np.array(end) for id_, end in ends.items()})
            store.add(Comparison(person, better, worse, "right" if number in slips else "left", source="comfyui"))
        words = playground_words()
        axes = [np.append(5.0 * (word.text.startswith("night")), draw.normal(size=7)) for word in words]
        store.put_vectors(f"words of {'d' * 64}", {word.sentence: axis for word, axis in zip(words, axes, strict=True)})


def test_a_taste_in_words_and_answers_that_look_like_slips(host: Host, browser: Any) -> None:  # noqa: F811
    like_the_first_axis(host, "lou", slips=[3, 9])
    page = open_tab(host, browser, "lou")
    state(page, answers=40)
    page.locator(".palate-likes li:not(.palate-light)", has_text="night").wait_for(timeout=WAIT)
    assert "night" not in (page.locator(".palate-dislikes").all_inner_texts() or [""])[0]
    page.get_by_role("button", name="2 answers look like slips").click(timeout=WAIT)
    page.locator(".palate-look", has_text="1 of 2").wait_for(timeout=WAIT)
    assert page.locator(".palate-look .palate-picture em").inner_text() == "your answer"
    page.keyboard.press("Alt+Shift+ArrowLeft")  # a command answers what is shown: not this one, but the other
    page.locator(".palate-look", has_text="2 of 2").wait_for(timeout=WAIT)
    page.wait_for_timeout(500)
    page.keyboard.press("Enter")  # keep
    page.locator(".palate-seen", has_text="2 looked at again").wait_for(timeout=WAIT)
    assert not page.locator(".palate-look").count()
    state(page, answers=41)
    with PreferenceStore(host.home / "store") as store:
        said = [one.outcome for one in store.comparisons("lou")]
        assert store.newest("lou", 1)[0].source == SECOND_LOOK
    assert sorted(said[:40]) == ["left"] * 39 + ["right"] and said[40] == "right"
    assert host.request("/palate/state", {"person": "lou"})["slips"] == 0
    assert page.wrong == []
    page.close()


def test_a_second_look_that_ends_in_a_closed_tab_leaves_the_questions_there(host: Host, browser: Any) -> None:  # noqa: F811
    like_the_first_axis(host, "lea", slips=[3])
    (offer,) = ask(host, "leo", 1)
    page = open_tab(host, browser, "lea")
    page.get_by_role("button", name="1 answer looks like a slip").click(timeout=WAIT)
    page.locator(".palate-look").wait_for(timeout=WAIT)
    page.evaluate(TOGGLE)
    page.locator(".palate-tab").wait_for(state="detached", timeout=WAIT)
    page.evaluate(
        """offer => window.app.api.dispatchEvent(new CustomEvent("palate.waiting", {
          detail: { person: "leo", offers: [offer], pairs: [], deadline: null } }))""",
        offer,
    )  # a graph waits for somebody else now
    page.wait_for_function("() => localStorage.getItem('Palate.Person') === 'leo'", timeout=WAIT)
    page.evaluate(TOGGLE)
    shown(page, offer)
    assert not page.locator(".palate-look").count()
    assert page.wrong == []
    page.close()
