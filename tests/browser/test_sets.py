"""Four at once in a real Chromium: the best, an order, by mouse and by keyboard; a second look; the live view."""

import driving
import panel_fakes as fakes
import pytest

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
choose_person, next_pair, settle = driving.choose_person, driving.next_pair, driving.settle
expect = sync_api.expect
# A digit as French keyboards make it: with Shift.
FRENCH = """digit => document.body.dispatchEvent(new KeyboardEvent("keydown",
  { key: digit, code: `Digit${digit}`, shiftKey: true, bubbles: true, cancelable: true }))"""
NEW_SET = """before => {
  const stage = document.querySelector("#palate-stage[data-ticket]");
  return stage && stage.dataset.ticket !== before && stage.querySelectorAll("img").length === 4;
}"""


def next_set(page, before=""):
    page.wait_for_function(NEW_SET, arg=before or "")
    return driving.ticket(page)


def begin(page, name, way):
    """Choose as this person in this way; return the ticket of the first set."""
    choose_person(page, name)
    before = driving.ticket(page)
    page.click(f'.pl-ways [data-way="{way}"]')
    return next_set(page, before)


def places(page):
    return page.locator(".pl-nth").all_inner_texts()


def test_the_best_of_four_by_click_and_by_key(page, panel):
    ticket = begin(page, "Bo", "best")
    wanted = []
    for how in ("click", "key", "enter", "much", "much by key", "french"):
        images = driving.shown_pictures(page)
        wanted.append(images[2])
        if how == "click":
            page.click('[data-choose="third"]')
        elif how == "key":
            page.keyboard.press("3")
        elif how == "much":
            page.click('[data-choose="third"]', modifiers=["Shift"])
        elif how == "much by key":
            page.keyboard.press("Shift+Digit3")
        elif how == "french":
            page.evaluate(FRENCH, "3")
        else:
            page.focus('[data-choose="left"]')
            page.keyboard.press("ArrowDown")
            expect(page.locator('[data-choose="third"]')).to_be_focused()
            page.keyboard.press("Enter")
        ticket = next_set(page, ticket)
    settle(page)
    stored = panel.store.rankings("Bo")
    assert [ranking.tiers[0] for ranking in stored] == [(image,) for image in wanted]
    assert [len(ranking.tiers[1]) for ranking in stored] == [3] * 6
    assert [ranking.much for ranking in stored] == [False, False, False, True, True, False]
    expect(page.locator("#palate-count")).to_have_text("6 answers")


def test_an_order_by_mouse(page, panel):
    ticket = begin(page, "Om", "order")
    images = driving.shown_pictures(page)
    for place in ("fourth", "left"):
        page.click(f'[data-choose="{place}"]')
    assert places(page) == ["2nd", "", "", "1st"]
    page.click('[data-choose="left"]')  # takes it back
    assert places(page) == ["", "", "", "1st"]
    for place in ("right", "left"):  # the last one follows by itself
        page.click(f'[data-choose="{place}"]')
    next_set(page, ticket)
    settle(page)
    (ranking,) = panel.store.rankings("Om")
    assert ranking.tiers == ((images[3],), (images[1],), (images[0],), (images[2],))
    assert places(page) == [""] * 4


def test_an_order_by_keyboard_with_a_step_back_and_a_reload_in_between(page, panel):
    ticket = begin(page, "Ok", "order")
    images = driving.shown_pictures(page)
    for key in ("2", "4", "Backspace", "1"):
        page.keyboard.press(key)
    expect(page.locator("#palate-said")).to_have_text("Picture 1 is your 2nd. Choose your 3rd.")
    page.reload()
    assert next_set(page) == ticket
    assert places(page) == ["2nd", "1st", "", ""]
    assert page.get_attribute('[data-choose="third"]', "aria-label") == "Picture 3: make it your 3rd"
    page.keyboard.press("4")
    after = next_set(page, ticket)
    settle(page)
    (ranking,) = panel.store.rankings("Ok")
    assert [tier[0] for tier in ranking.tiers] == [images[1], images[0], images[3], images[2]]
    page.keyboard.press("Backspace")  # with no step to take back it is the whole answer
    assert next_set(page, after) == ticket
    assert panel.store.rankings("Ok") == []
    page.keyboard.press("x")
    ticket = next_set(page, ticket)
    page.keyboard.press("s")
    next_set(page, ticket)
    settle(page)
    assert [ranking.outcome for ranking in panel.store.rankings("Ok")] == ["both_bad", "skip"]


def test_the_way_is_remembered_and_digits_are_tabs_again_for_pairs(page):
    begin(page, "Wes", "best")
    page.reload()
    next_set(page)
    expect(page.locator('.pl-ways [data-way="best"]')).to_have_attribute("aria-pressed", "true")
    before = driving.ticket(page)
    page.keyboard.press("w")
    next_set(page, before)
    expect(page.locator("#palate-question")).to_have_text("Put them in order")
    page.keyboard.press("w")
    expect(page.locator("#palate-question")).to_have_text("Which do you prefer?")
    next_pair(page)
    page.keyboard.press("2")
    expect(page.locator("#palate-page-taste")).to_be_visible()


def test_quick_hands_lose_and_double_nothing(page, panel):
    begin(page, "Quin", "best")
    told = page.evaluate(
        """async () => {
          const stage = document.getElementById("palate-stage"), given = [];
          const frame = () => new Promise((go) => requestAnimationFrame(go));
          while (given.length < 20) {
            const { ticket } = stage.dataset;
            if (!ticket || given.includes(ticket)) { await frame(); continue; }
            given.push(ticket);
            const card = stage.querySelector('[data-choose="fourth"]');
            for (let times = 0; times < 2 && stage.dataset.ticket === ticket; times++) card.click();
          }
          await window.palateCompare.settled();
          return given;
        }"""
    )
    stored = panel.store.rankings("Quin")
    first = {one.ranking: one.id for one in reversed(panel.store.comparisons("Quin"))}
    assert [panel.store.find_offer(comparison=first[ranking.id]).id for ranking in stored] == told


def test_holding_the_space_bar_shows_one_of_four_in_full_and_digits_flip(page, panel):
    begin(page, "Zed", "best")
    images = driving.shown_pictures(page)
    page.hover('[data-choose="right"]')
    page.keyboard.down("Space")
    picture = page.locator("#palate-zoom img")
    expect(picture).to_have_count(1)
    assert picture.get_attribute("src").endswith(images[1])
    page.mouse.wheel(0, -100)
    page.keyboard.press("4")
    assert picture.get_attribute("src").endswith(images[3])
    assert "scale(1.5)" in picture.get_attribute("style")
    page.keyboard.up("Space")
    expect(page.locator("#palate-zoom")).to_be_hidden()
    assert panel.store.rankings("Zed") == []


def test_answers_that_may_be_slips_are_looked_at_again(page, panel):
    fakes.answer_some(panel.store, "Sly", 30)
    before = [one.outcome for one in panel.store.comparisons("Sly")]
    ticket = choose_person(page, "Sly")
    look = page.locator("#palate-look")
    while not look.is_visible():  # it is worked out behind the answers
        page.click("#palate-skip")
        ticket = next_pair(page, ticket)
    expect(look).to_have_text("Look again at 2 answers that may be slips")
    look.click()
    expect(page.locator("#palate-question")).to_have_text("Is this still your answer?")
    marked = page.locator(".pl-card:has(.pl-nth:not(:empty))")
    expect(marked).to_have_count(1)
    given = marked.get_attribute("data-choose")
    page.keyboard.press("ArrowLeft" if given == "right" else "ArrowRight")
    expect(page.locator("#palate-step")).to_contain_text("2 of 2")
    page.keyboard.press("k")
    expect(page.locator("#palate-question")).to_have_text("Which do you prefer?")
    assert next_pair(page) == ticket
    after = panel.store.comparisons("Sly")
    assert sum(one != other.outcome for one, other in zip(before, after, strict=False)) == 1
    assert after[-1].source == "panel:second-look"


def test_the_plot_grows_beside_the_pair_and_moves_nothing(page, panel):
    fakes.answer_some(panel.store, "Liv", 40)
    ticket = choose_person(page, "Liv")
    where = page.locator(".pl-pair").bounding_box()
    page.keyboard.press("ArrowLeft")
    next_pair(page, ticket)
    plot = page.locator("#palate-plot svg.pl-plot")
    expect(plot.locator("title")).to_contain_text("Accuracy after", timeout=driving.WAIT)
    assert page.locator(".pl-pair").bounding_box() == where
    with page.expect_response("**/palate/api/wanted"):
        page.fill("#palate-surprise", "0.5")
    page.reload()
    next_pair(page)
    expect(page.locator("#palate-surprise")).to_have_value("0.5")
