"""What the panel says comes late, in another order, or to somebody who is no longer there; nothing is lost by it."""

import time

import driving
import panel_fakes as fakes
import pytest

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
choose_person, next_pair, open_tab = driving.choose_person, driving.next_pair, driving.open_tab
expect = sync_api.expect
# Stands for a gallery of two pages, of which the second comes when the test says so.
MANY = """() => {
  const real = window.palateKit.ask;
  window.later = [];
  window.palateKit.picture = () => "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=";
  const shot = (id) => ({ id, created: 0, prompt: id, seed: "1", strength: 0, tastes: [], starred: false });
  window.palateKit.ask = (path, ...more) => {
    if (!path.startsWith("gallery?")) return real(path, ...more);
    const told = (...ids) => ({ shots: ids.map(shot), more: ids.length > 1, people: [] });
    return new Promise((go) => (path.includes("before") ? later.push(() => go(told("c"))) : go(told("a", "b"))));
  };
}"""


def slow(page, path, only=""):
    """Hold back what the panel says to one kind of request, the first one, until `window.release()`."""
    page.evaluate(driving.SLOW, [path, only])


def reached(page):
    page.wait_for_function("() => window.reached")


def release(page):
    page.evaluate("() => window.release()")


def outcomes(panel, person):
    return driving.outcomes(panel.store, person)


def test_answers_while_somebody_else_is_chosen_are_all_stored(page, panel):
    choose_person(page, "First")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    slow(page, "/hello")
    page.evaluate("() => void window.palate.use('Second')")
    reached(page)
    page.keyboard.press("ArrowRight")  # of the pair on the screen; the panel drops those behind it
    assert driving.ticket(page) is None
    page.keyboard.press("ArrowRight")
    release(page)
    expect(page.locator("#palate-person")).to_have_value("Second")
    next_pair(page)
    driving.settle(page)
    assert (outcomes(panel, "First"), outcomes(panel, "Second")) == (["right"], [])


def test_who_was_chosen_last_answers(page, panel):
    choose_person(page, "Zoe")
    slow(page, "/hello", "Early")
    page.evaluate("() => void window.palate.use('Early')")
    reached(page)
    choose_person(page, "Late")
    release(page)
    page.evaluate("() => new Promise((go) => setTimeout(go))")
    assert page.evaluate("() => window.palate.person()") == "Late"
    expect(page.locator("#palate-person")).to_have_value("Late")


def test_a_pair_that_is_dropped_cannot_be_answered(page, panel):
    choose_person(page, "Turner")
    slow(page, "/wanted")
    page.click('#palate-stage [data-way="best"]')
    reached(page)
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("() => Object.keys(localStorage).filter((name) => name.startsWith('palate-outbox'))") == []
    assert driving.ticket(page) is None
    release(page)
    expect(page.locator("#palate-stage img")).to_have_count(4)
    page.click('#palate-stage [data-way="pairs"]')
    next_pair(page)


def test_going_back_from_a_second_look_shows_the_pairs_however_late_the_answer_is(page, panel):
    fakes.answer_some(panel.store, person="Looker", number=30)
    first = choose_person(page, "Looker")
    page.click("#palate-look")
    expect(page.locator("#palate-stage")).to_have_attribute("data-look", "")
    slow(page, "/second-look/answer")
    page.keyboard.press("k")
    reached(page)
    page.keyboard.press("Escape")
    release(page)
    driving.settle(page)
    page.wait_for_function("first => document.getElementById('palate-stage').dataset.ticket === first", arg=first)
    expect(page.locator("#palate-stage")).not_to_have_attribute("data-look", "")
    assert page.evaluate("() => window.palateLook.open()") is False


def test_what_is_painted_for_one_is_not_on_the_easel_of_the_next(page, panel):
    choose_person(page, "Painter")
    open_tab(page, "Generate")
    page.fill('#palate-generate [data-part="prompt"]', "a red star")
    slow(page, "/paint")
    page.evaluate("() => document.addEventListener('palate:painted', () => (window.painted = true))")
    page.click('#palate-generate [data-act="paint"]')
    reached(page)
    open_tab(page, "People")
    assert page.evaluate("() => window.palate.use('Visitor')")
    release(page)
    page.wait_for_function("() => window.painted")
    kept = page.evaluate("() => ['Painter', 'Visitor'].map((who) => localStorage.getItem(`palate-easel:${who}`))")
    assert "a red star" in kept[0]
    assert kept[1] is None


def test_more_of_the_gallery_comes_once_however_often_it_is_asked_for(page, panel):
    open_tab(page, "Generate")
    page.evaluate(MANY)
    page.evaluate("() => document.dispatchEvent(new CustomEvent('palate:gallery'))")
    more = page.locator('#palate-generate [data-act="more"]')
    expect(more).to_be_visible()
    more.click()
    more.click()
    assert page.evaluate("() => { later.forEach((go) => go()); return later.length; }") == 2
    page.evaluate("() => new Promise((go) => setTimeout(go))")
    expect(page.locator("#palate-generate .pl-tile")).to_have_count(3)


def test_a_double_click_removes_one_file_only(page, panel):
    choose_person(page, "Owner")
    fakes.answer_some(panel.store, person="Owner", number=12)
    open_tab(page, "Share")
    for number in range(2):
        page.evaluate(
            "number => window.palateKit.ask('tastes/save', {person: 'Owner', named: Boolean(number)})", number
        )
    page.evaluate("() => window.palate.refresh()")
    rows = page.locator("#palate-share-page [data-part=tastes] [data-file]")
    expect(rows).to_have_count(2)
    removed = []
    page.on("request", lambda request: removed.append(request.url) if request.url.endswith("/remove") else None)
    box = rows.first.locator(".pl-remove").bounding_box()
    page.mouse.click(box["x"] + 5, box["y"] + 5)
    expect(rows).to_have_count(1)
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)
    page.evaluate("() => window.palateKit.ask('tastes')")
    assert len(removed) == 1


def test_work_that_a_new_panel_knows_nothing_of_has_failed(page):
    told = page.evaluate("() => window.palateKit.follow('0'.repeat(32), () => {})")
    assert told["state"] == "failed"
    assert "opened again" in told["error"]


def test_who_closes_the_page_right_after_a_click_has_answered(page, panel):
    first = choose_person(page, "Hasty")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    slow(page, "/compare", "left")
    page.keyboard.press("ArrowLeft")
    reached(page)
    next_pair(page, first)
    page.keyboard.press("ArrowRight")
    page.goto("about:blank")
    late = time.monotonic() + 60
    while len(outcomes(panel, "Hasty")) < 2 and time.monotonic() < late:
        time.sleep(0.02)
    assert outcomes(panel, "Hasty") == ["left", "right"]


def test_a_tab_that_was_duplicated_has_pairs_of_its_own(page):
    key = page.evaluate("() => window.palate.tab")
    with page.expect_popup() as opened:
        page.evaluate("() => void window.open(location.href)")  # with a copy of what this tab keeps, as a duplicate
    other = opened.value
    next_pair(other)
    assert driving.ticket(other) != driving.ticket(page)
    page.reload()
    next_pair(page)
    assert page.evaluate("() => window.palate.tab") == key


def test_the_answers_of_one_are_not_listed_for_the_next(page, panel):
    fakes.answer_some(panel.store, person="Lister", number=3)
    choose_person(page, "Lister")
    slow(page, "/answers", "Lister")
    open_tab(page, "Taste")
    reached(page)
    with page.expect_response(lambda one: one.url.endswith("/answers")):
        assert page.evaluate("() => window.palate.use('Nobody yet')")
    page.evaluate("() => window.palateKit.ask('tastes')")  # after which that is on the page
    release(page)
    page.evaluate("() => window.palateKit.ask('tastes')")
    expect(page.locator("#palate-answers > li")).to_have_count(0)


def test_of_two_quick_changes_of_an_answer_the_last_one_counts(page, panel):
    fakes.answer_some(panel.store, person="Changer", number=1)
    (before,) = panel.store.comparisons("Changer")
    choose_person(page, "Changer")
    open_tab(page, "Taste")
    row = page.locator("#palate-answers > li").first
    expect(row).to_be_visible()
    slow(page, "/answers/change")
    asked = []
    page.on("requestfinished", lambda one: asked.append(one) if one.url.endswith("/answers/change") else None)
    row.locator('[data-change="tie"]').click()
    reached(page)
    row.locator(f'[data-change="{before.outcome}"]').click()
    release(page)
    late = time.monotonic() + 60
    while len(asked) < 2 and time.monotonic() < late:
        page.wait_for_timeout(20)
    assert outcomes(panel, "Changer") == [before.outcome]
    expect(page.locator(f'#palate-answers [aria-pressed=true][data-change="{before.outcome}"]')).to_be_visible()
    expect(page.locator(".pl-say")).to_have_count(0)
