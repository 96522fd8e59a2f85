"""The panel in a real Chromium: what was learned, generating, light and dark, nobody else's server."""

import re

import driving
import panel_fakes as fakes
import pytest

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
choose_person, next_pair, open_tab = driving.choose_person, driving.next_pair, driving.open_tab


def test_keys_and_the_address_choose_the_tab(page):
    for key, name in (("2", "taste"), ("6", "people"), ("1", "compare")):
        page.keyboard.press(key)
        sync_api.expect(page.locator(f"#palate-page-{name}")).to_be_visible()
        assert page.url.endswith(f"#{name}")
    page.locator("#palate-tab-compare").focus()
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.get_by_role("tab", name="Taste")).to_be_focused()
    page.reload()
    sync_api.expect(page.locator("#palate-page-taste")).to_be_visible()


def test_after_a_click_on_a_tab_the_arrow_keys_are_for_the_pictures(page):
    before = driving.ticket(page)
    open_tab(page, "Compare")
    page.keyboard.press("ArrowLeft")
    next_pair(page, before)
    sync_api.expect(page.locator("#palate-page-compare")).to_be_visible()


def test_the_taste_before_there_are_answers_says_what_to_do(page):
    choose_person(page, "Nobody yet")
    open_tab(page, "Taste")
    sync_api.expect(page.locator("#palate-learned")).to_contain_text("Nothing learned yet")
    page.get_by_role("button", name="Compare pictures").click()
    sync_api.expect(page.locator("#palate-page-compare")).to_be_visible()


def test_the_taste_in_words_pictures_and_numbers_and_answers_that_can_be_changed(page, panel):
    fakes.answer_some(panel.store, person="Fay", number=40)
    choose_person(page, "Fay")
    open_tab(page, "Taste")
    sync_api.expect(page.locator(".pl-figure strong")).to_have_text(re.compile(r"\d+\s%"))
    sync_api.expect(page.locator(".pl-likes li").first).to_have_text(re.compile("red|yellow"))
    assert page.locator(".pl-row img").count() == 16
    rows = page.locator("#palate-answers > li")
    assert rows.count() == 20
    page.click("#palate-more")
    sync_api.expect(rows).to_have_count(40)
    with page.expect_response("**/palate/api/answers/change"):  # the button shows what was clicked before that
        rows.first.get_by_role("button", name="Both bad").click()
    sync_api.expect(rows.first.locator('[data-change="both_bad"]')).to_have_attribute("aria-pressed", "true")
    assert panel.store.comparisons("Fay")[-1].outcome == "both_bad"
    rows.nth(1).get_by_role("button", name="Delete").click()
    sync_api.expect(rows).to_have_count(39)
    page.get_by_role("button", name="Undo", exact=True).last.click()
    sync_api.expect(page.locator("#palate-more")).to_be_visible()
    assert panel.store.count("Fay") == 40


def test_people_are_added_switched_renamed_and_deleted(page, panel):
    fakes.answer_some(panel.store, person="Old", number=2)
    open_tab(page, "People")
    page.fill("#palate-new-person", "Newcomer")
    page.press("#palate-new-person", "Enter")
    sync_api.expect(page.locator("#palate-page-compare")).to_be_visible()
    assert page.input_value("#palate-person") == "Newcomer"
    open_tab(page, "People")
    page.get_by_role("button", name="Rename Old").click()
    page.fill("#palate-new-name", "Older")
    page.press("#palate-new-name", "Enter")
    page.get_by_role("button", name="Switch to Older").click()
    sync_api.expect(page.locator("[aria-current=true] strong")).to_have_text("Older")
    page.get_by_role("button", name="Delete the answers of Older").click()
    sure = page.locator("#palate-forget [type=submit]")
    page.locator("#palate-forget-name").press_sequentially("Olde")
    sync_api.expect(sure).to_be_disabled()
    page.locator("#palate-forget-name").press_sequentially("r")
    sure.click()
    sync_api.expect(page.locator("#palate-count")).to_have_text("0 answers")
    assert panel.store.count("Older") == 0


def test_dark_is_remembered(page, panel):
    before = page.evaluate("() => document.body.classList.contains('dark')")
    page.click("#palate-theme")
    page.reload()
    next_pair(page)
    assert page.evaluate("() => document.body.classList.contains('dark')") is not before


def test_other_pages_are_turned_away(page, panel):
    request = page.request
    post = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    assert request.post(f"{panel.url}palate/api/compare", headers=post, data="{}").status == 403
    assert request.get(panel.url, headers={"Host": "evil.example"}).status == 403
    join = f"{panel.url}gradio_api/queue/join"
    assert request.post(join, headers={"Origin": "http://evil.example"}, data={}).status == 403
    assert request.get(f"{panel.url}palate/pictures/..%2f..%2fstore.sqlite").status == 404


def test_each_tab_has_one_heading_to_jump_to(page):
    names = ("Which do you prefer?", "What you like", "Generate", "Train a LoRA", "Share", "People")
    for key, name in enumerate(names, 1):
        page.keyboard.press(str(key))
        heading = page.get_by_role("heading", level=1)
        sync_api.expect(heading).to_have_count(1)
        if key != 2:  # before there are answers the taste says something else
            sync_api.expect(heading).to_have_text(name)


@pytest.mark.parametrize(("width", "height", "least"), [(3840, 2160, 1000), (1280, 800, 480)])
def test_pictures_are_as_large_as_the_screen_allows(visit, width, height, least):
    page = visit(viewport={"width": width, "height": height})
    driving.next_pair(page)
    box = page.locator("#palate-stage .pl-card").first.bounding_box()
    assert least <= box["width"] <= 1150
    assert box["y"] + box["height"] < height
