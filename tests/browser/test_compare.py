"""Compare in a real Chromium: clicks, keys, fingers, quick hands, two people, a restart. The model is a quick fake."""

import driving
import panel_fakes as fakes
import pytest

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
choose_person, next_pair, outcomes, settle = driving.choose_person, driving.next_pair, driving.outcomes, driving.settle
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# Answers every pair that comes to the screen, at once and twice over, by click and by key in turn.
QUICK = """async ([number, names]) => {
  const stage = document.getElementById("palate-stage");
  const given = [], took = [];
  const frame = () => new Promise((go) => requestAnimationFrame(go));
  while (given.length < number) {
    const { ticket } = stage.dataset;
    if (!ticket || given.some((one) => one.ticket === ticket)) { await frame(); continue; }
    const name = names[given.length % names.length];
    const side = stage.querySelector(`[data-choose="${name}"], [data-answer="${name}"]`);
    given.push({ ticket, outcome: name });
    for (let times = 0; times < 2 && stage.dataset.ticket === ticket; times++) side.click();
    const clicked = performance.now();
    while (stage.dataset.ticket === ticket) await frame();
    if (stage.dataset.ticket) took.push(performance.now() - clicked);
  }
  await window.palateCompare.settled();
  return { given, took };
}"""

# Something else answers at this path, until `window.back()`. In the page itself: on a busy machine Playwright's routes
# can come too late for the first request.
AWAY = """(path) => {
  const real = window.fetch;
  const other = () => Promise.resolve(new Response("no JSON"));
  window.fetch = (address, ...given) => (String(address).endsWith(path) ? other() : real(address, ...given));
  window.back = () => (window.fetch = real);
}"""


def test_click_keys_and_undo_reach_the_store(page, panel):
    ticket = choose_person(page, "Ada")
    page.click('[data-choose="left"]')
    ticket = next_pair(page, ticket)
    for key in ("d", "ArrowLeft", "t", "x", "s", "u", "b", "b", "z"):  # B and Z mean what they do in ComfyUI's node
        page.keyboard.press(key)
        ticket = next_pair(page, ticket)
    assert outcomes(panel.store, "Ada") == ["left", "right", "left", "tie", "both_bad", "both_bad"]
    page.keyboard.press("Backspace")
    ticket = next_pair(page, ticket)
    page.keyboard.press("Control+z")
    next_pair(page, ticket)
    sync_api.expect(page.locator("#palate-count")).to_have_text("4 answers")
    assert outcomes(panel.store, "Ada") == ["left", "right", "left", "tie"]
    stored = panel.store.comparisons("Ada")[0]
    assert stored.seconds is not None
    assert stored.source == "panel:random"
    assert panel.store.has_image(stored.chosen)


def test_where_the_browser_is_full_a_click_counts_all_the_same(page, panel):
    ticket = choose_person(page, "Fay")
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }; }")
    page.keyboard.press("ArrowLeft")
    next_pair(page, ticket)
    settle(page)
    assert outcomes(panel.store, "Fay") == ["left"]


def test_with_shift_it_is_much_better(page, panel):
    ticket = choose_person(page, "Max")
    for press in (
        lambda: page.click('[data-choose="left"]', modifiers=["Shift"]),
        lambda: page.keyboard.press("ArrowRight"),
        lambda: page.keyboard.press("Shift+ArrowRight"),
        lambda: page.keyboard.press("t"),
        lambda: page.click('[data-choose="right"]'),
    ):
        press()
        ticket = next_pair(page, ticket)
    settle(page)
    given = [(one.outcome, one.much) for one in panel.store.comparisons("Max")]
    assert given == [("left", True), ("right", False), ("right", True), ("tie", None), ("right", False)]


def test_every_answer_has_a_button(page, panel):
    ticket = choose_person(page, "Abe")
    for name in ("tie", "both_bad", "skip"):
        page.click(f"#palate-{name}")
        ticket = next_pair(page, ticket)
    page.click("#palate-undo")
    next_pair(page, ticket)
    assert outcomes(panel.store, "Abe") == ["tie", "both_bad"]


def test_the_picture_that_was_clicked_is_the_one_chosen(page, panel):
    ticket = choose_person(page, "Bea")
    image = driving.shown_pictures(page)[1]
    page.click('[data-choose="right"]')
    next_pair(page, ticket)
    settle(page)
    assert panel.store.comparisons("Bea")[0].chosen == image


def test_200_quick_answers_are_stored_once_each_in_their_order(page, panel):
    choose_person(page, "Cy")
    names = ["left", "right", "tie", "left", "both_bad", "right", "left"]
    told = page.evaluate(QUICK, [200, names])
    stored = panel.store.comparisons("Cy")
    offered = [panel.store.find_offer(comparison=one.id).id for one in stored]
    assert [one.outcome for one in stored] == [one["outcome"] for one in told["given"]]
    assert offered == [one["ticket"] for one in told["given"]]
    assert len(set(offered)) == 200


def test_the_next_pair_is_on_the_screen_at_once_when_it_is_ready(page):
    before = choose_person(page, "Di")
    took = []
    for _ in range(12):
        page.wait_for_function("() => window.palateCompare.ready() > 1")
        page.keyboard.press("ArrowLeft")
        before = next_pair(page, before)
        page.wait_for_function("() => document.getElementById('palate-stage').dataset.took")
        took.append(float(page.get_attribute("#palate-stage", "data-took")))
    assert sorted(took)[len(took) // 2] < 1000  # ms; a loose bound for a busy machine


def test_answers_wait_in_the_browser_while_the_panel_is_away(page, panel):
    ticket = choose_person(page, "Ed")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    page.evaluate(AWAY, "/compare")
    page.keyboard.press("ArrowLeft")
    next_pair(page, ticket)
    sync_api.expect(page.locator("#palate-status")).to_contain_text("1 answer waits here")
    page.evaluate("() => window.back()")
    settle(page)
    assert outcomes(panel.store, "Ed") == ["left"]


def test_a_panel_that_hangs_is_said_and_loses_nothing(page, panel):
    ticket = choose_person(page, "Ned")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    page.evaluate("""() => {
      const real = AbortSignal.timeout.bind(AbortSignal);
      AbortSignal.timeout = () => real(window.limit);
      window.limit = 300;
    }""")
    page.route("**/palate/api/compare", lambda route: None)  # nothing ever comes
    page.keyboard.press("ArrowLeft")
    next_pair(page, ticket)
    sync_api.expect(page.locator("#palate-status")).to_contain_text("doesn't answer")
    sync_api.expect(page.locator("#palate-status")).to_contain_text("1 answer waits here")
    page.evaluate("() => (window.limit = 60000)")
    page.unroute("**/palate/api/compare")
    settle(page)
    assert outcomes(panel.store, "Ned") == ["left"]


def test_an_answer_given_just_before_a_reload_is_not_lost(page, panel):
    ticket = choose_person(page, "Flo")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    page.route("**/palate/api/compare", lambda route: route.fulfill(status=200, body="no JSON"))
    page.keyboard.press("t")
    page.unroute("**/palate/api/compare")
    page.reload()
    next_pair(page, ticket)
    settle(page)
    assert outcomes(panel.store, "Flo") == ["tie"]


def test_an_answer_whose_page_was_closed_while_the_panel_was_away_is_sent_by_the_next_page(visit, page, panel):
    ticket = choose_person(page, "Gus")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    for path in ("compare", "leaving"):
        page.route(f"**/palate/api/{path}", lambda route: route.fulfill(status=200, body="no JSON"))
    page.keyboard.press("ArrowRight")
    next_pair(page, ticket)
    context = page.context
    page.close()
    other = visit(context=context)
    next_pair(other)
    settle(other)
    assert outcomes(panel.store, "Gus") == ["right"]


def test_keys_are_letters_while_typing(page, panel):
    ticket = choose_person(page, "Dee")
    page.click("#palate-about")
    page.locator("#palate-wanted-prompt").press_sequentially("a tall box, bad sun 2 3")
    assert driving.ticket(page) == ticket
    page.press("#palate-wanted-prompt", "Enter")
    next_pair(page, ticket)
    sync_api.expect(page.locator("#palate-prompt")).to_have_text("a tall box, bad sun 2 3")
    assert outcomes(panel.store, "Dee") == []


def test_a_folder_of_ones_own_pictures(page, panel):
    folder = panel.folder / "pictures"
    folder.mkdir()
    for number in range(3):
        fakes.picture(number).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    ticket = choose_person(page, "Eli")
    page.click("#palate-about")
    page.get_by_text("Pictures of your own").click()
    page.fill("#palate-wanted-folder", str(folder))
    page.click("#palate-use")
    ticket = next_pair(page, ticket)
    for _ in range(2):
        page.keyboard.press("a")
        ticket = next_pair(page, ticket)
    asked = []
    page.on("request", lambda request: asked.append(1) if request.url.endswith("/api/compare") else None)
    page.wait_for_timeout(2500)  # the last one is on the screen: the panel is asked for more, but ever less often
    assert len(asked) <= 5
    page.keyboard.press("a")
    sync_api.expect(page.locator(".pl-stopped")).to_contain_text("every pair of the 3 pictures")
    sync_api.expect(page.locator("#palate-prompt")).to_have_text("Compare other pictures")
    sync_api.expect(page.locator(".pl-answers button:visible")).to_have_count(1)
    sync_api.expect(page.locator("#palate-status")).to_contain_text("skipped 1 file that can't be read")
    assert len(outcomes(panel.store, "Eli")) == 3


def test_a_folder_that_is_none_is_a_message_and_the_pair_stays(page):
    ticket = driving.ticket(page)
    page.click("#palate-about")
    page.get_by_text("Pictures of your own").click()
    page.fill("#palate-wanted-folder", "/no/such/folder")
    page.click("#palate-use")
    sync_api.expect(page.locator("#palate-choice .pl-wrong")).to_contain_text("is no folder")
    page.keyboard.press("Escape")
    assert driving.ticket(page) == ticket


def test_holding_the_space_bar_or_the_mouse_shows_both_in_full_and_chooses_nothing(page, panel):
    ticket = choose_person(page, "Zoe")
    zoom = page.locator("#palate-zoom")
    page.keyboard.down("Space")
    sync_api.expect(zoom.locator("img")).to_have_count(2)
    page.mouse.move(200, 300)
    page.mouse.wheel(0, -100)
    styles = zoom.locator("img").evaluate_all("all => all.map(one => one.style.transform + one.style.transformOrigin)")
    assert styles[0] == styles[1] != ""
    page.keyboard.up("Space")
    sync_api.expect(zoom).to_be_hidden()
    page.hover('[data-choose="left"]')
    page.mouse.down()
    sync_api.expect(zoom).to_be_visible()
    page.mouse.up()
    sync_api.expect(zoom).to_be_hidden()
    assert driving.ticket(page) == ticket
    assert outcomes(panel.store, "Zoe") == []


def test_a_reload_shows_the_same_pair_to_the_same_person(page):
    choose_person(page, "Gil")
    before = driving.shown_pictures(page)
    page.reload()
    next_pair(page)
    assert driving.shown_pictures(page) == before
    assert page.input_value("#palate-person") == "Gil"


def test_two_people_in_two_tabs(visit, page, panel):
    other = visit(context=page.context)
    next_pair(other)
    first, second = choose_person(page, "Hal"), choose_person(other, "Ivy")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
        other.keyboard.press("ArrowRight")
        first, second = next_pair(page, first), next_pair(other, second)
    for one in (page, other):
        settle(one)
        one.reload()
        next_pair(one)
    assert (page.input_value("#palate-person"), other.input_value("#palate-person")) == ("Hal", "Ivy")
    assert (outcomes(panel.store, "Hal"), outcomes(panel.store, "Ivy")) == (["left"] * 3, ["right"] * 3)


def test_a_phone_shows_the_whole_pair_without_scrolling_and_takes_taps(visit, panel):
    page = visit(**PHONE)
    ticket = next_pair(page)
    box = page.locator("#palate-undo").bounding_box()
    assert box["y"] + box["height"] <= page.locator(".pl-tabs").bounding_box()["y"]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    ticket = choose_person(page, "Jo")
    page.tap('[data-choose="right"]')
    next_pair(page, ticket)
    settle(page)
    (given,) = panel.store.comparisons("Jo")
    assert (given.outcome, given.much) == ("right", None)  # without Shift to hold, it can't be said


def test_a_swipe_to_the_right_prefers_a_picture_and_to_the_left_the_other(visit, panel):
    page = visit(**PHONE)
    next_pair(page)
    ticket = choose_person(page, "Kim")
    swipe = """([side, across]) => {
      const card = document.querySelector(`[data-choose=${side}]`);
      const box = card.getBoundingClientRect();
      const at = (type, x) => card.dispatchEvent(new PointerEvent(type,
        { bubbles: true, pointerType: "touch", clientX: x, clientY: box.y + 50 }));
      at("pointerdown", 150); at("pointermove", 150 + across / 2); at("pointermove", 150 + across);
      at("pointerup", 150 + across);
    }"""
    for side, across in (("left", 120), ("left", -120), ("right", -120)):
        page.evaluate(swipe, [side, across])
        ticket = next_pair(page, ticket)
    page.evaluate(swipe, ["left", 20])  # too short to mean anything
    settle(page)
    assert outcomes(panel.store, "Kim") == ["left", "right", "left"]


def test_a_killed_panel_comes_back_with_the_same_pair_prompt_and_person(browser, tmp_path):
    running = driving.RunningPanel(tmp_path)
    with browser.new_context() as context:  # a page whose panel is gone logs that: no error of the page's
        page = context.new_page()
        page.goto(running.url)
        next_pair(page)
        choose_person(page, "Lea")
        page.click("#palate-about")
        before = driving.ticket(page)
        page.fill("#palate-wanted-prompt", "a tin")
        page.click("#palate-use")
        before = next_pair(page, before)
        page.wait_for_function("() => window.palateCompare.ready() > 1")
        pictures = driving.shown_pictures(page)
        running.kill()
        running.start()
        page.reload()
        next_pair(page)
        assert driving.shown_pictures(page) == pictures
        assert (driving.ticket(page), page.input_value("#palate-person")) == (before, "Lea")
        assert page.text_content("#palate-prompt") == "a tin"
    running.kill()
