"""Taste in a real Chromium: the map by keys and by pointer, a strip painted on demand, a page saved and opened."""

import re

import driving
import panel_fakes as fakes
import pytest
from palate.adapters.comparisons import Ranking

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
ODD = '<script>alert(1)</script> & "Söhne"'


@pytest.fixture
def taste(page, panel):
    """The tab "Taste" of somebody with thirty answers, map and curve on it."""
    if panel.store.count(ODD) < 30:
        fakes.answer_some(panel.store, person=ODD, number=30)
    driving.choose_person(page, ODD)
    driving.open_tab(page, "Taste")
    expect(page.locator("#palate-learned .pl-plot")).to_be_visible(timeout=driving.WAIT)
    return page


def zoom(page):
    return float(page.evaluate("() => document.querySelector('.pl-ground').style.getPropertyValue('--zoom')"))


def test_the_map_by_keys_alone(taste):
    ground = taste.locator(".pl-ground")
    ground.focus()
    taste.keyboard.press("ArrowRight")
    first = ground.locator("[aria-selected]").get_attribute("id")
    taste.keyboard.press("ArrowRight")
    chosen = ground.locator("[aria-selected]")
    assert chosen.get_attribute("id") != first
    assert ground.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    taste.keyboard.press("+")
    taste.keyboard.press("+")
    assert zoom(taste) == pytest.approx(2.56)
    taste.keyboard.press("Enter")
    large = taste.locator("dialog.pl-large")
    expect(large.locator("img")).to_have_attribute("src", chosen.get_attribute("data-large"))
    before = large.locator("img").get_attribute("src")
    taste.keyboard.press("ArrowLeft")
    expect(large.locator("img")).not_to_have_attribute("src", before)
    taste.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect(ground).to_be_focused()
    taste.keyboard.press("Home")
    assert zoom(taste) == 1
    taste.keyboard.press("1")  # keys of the page go on working
    expect(taste.locator("#palate-page-compare")).to_be_visible()


def test_the_map_by_pointer(taste):
    ground = taste.locator(".pl-ground")
    ground.scroll_into_view_if_needed()
    box = ground.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    taste.mouse.move(x, y)
    taste.keyboard.down("Control")
    taste.mouse.wheel(0, -300)
    taste.keyboard.up("Control")
    taste.wait_for_function("() => Number(document.querySelector('.pl-ground').style.getPropertyValue('--zoom')) > 2")
    left = "() => Number(document.querySelector('.pl-ground').style.getPropertyValue('--left'))"
    before = taste.evaluate(left)
    taste.mouse.down()
    taste.mouse.move(x - 60, y, steps=3)
    taste.mouse.up()
    assert taste.evaluate(left) > before
    expect(taste.locator("dialog.pl-large")).to_be_hidden()  # dragged, not clicked
    taste.get_by_role("button", name="The whole map").click()
    assert zoom(taste) == 1
    ground.locator("img").last.click()
    expect(taste.locator("dialog.pl-large img")).to_be_visible()
    taste.mouse.click(4, 4)
    expect(taste.locator("dialog.pl-large")).to_be_hidden()


def test_a_strip_of_any_prompt_is_painted_on_demand(taste, panel):
    taste.fill("#palate-subject", "a red kite")
    taste.keyboard.press("Enter")
    expect(taste.get_by_text("No picture of “a red kite” yet.")).to_be_visible(timeout=driving.WAIT)
    taste.get_by_role("button", name="Paint some of it").click()
    strip = taste.locator(".pl-strip button")
    expect(strip).to_have_count(8, timeout=driving.WAIT)
    strip.first.focus()
    taste.keyboard.press("ArrowRight")
    expect(strip.nth(1)).to_be_focused()
    taste.keyboard.press("Home")
    taste.keyboard.press("Enter")
    expect(taste.locator("dialog.pl-large p")).to_contain_text("a red kite · 1 of 8 from not me to me")
    taste.keyboard.press("Escape")
    assert panel.store.count(ODD) == 30  # painted, not answered
    taste.get_by_role("button", name="Everything", exact=True).click()
    expect(strip).to_have_count(9, timeout=driving.WAIT)


@pytest.mark.parametrize("named", [False, True])
def test_a_saved_page_needs_no_network_and_no_panel(taste, browser, tmp_path, named):
    taste.get_by_role("button", name="a page to show").click()
    if named:
        taste.get_by_label("with my name", exact=True).check()
    with taste.expect_download() as download:
        taste.get_by_role("button", name="Save the page").click()
    file = tmp_path / "page.html"
    download.value.save_as(file)
    asked, wrong = [], []
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(file.as_uri())
        expect(page.locator("h1")).to_have_text(f"What {ODD} likes" if named else "A taste")
        expect(page.locator(".pl-plot")).to_be_visible()
        expect(page.locator(".pl-strip img")).to_have_count(9)
        page.locator(".pl-strip button").nth(3).click()
        expect(page.locator("dialog.pl-large img")).to_be_visible()
        page.keyboard.press("Escape")
        page.locator(".pl-ground").focus()
        page.keyboard.press("+")
        assert zoom(page) == pytest.approx(1.6)
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert wrong == []


def test_a_ranking_is_one_row_and_its_deletion_is_taken_back(page, panel):
    images = tuple(panel.store.add_image(fakes.picture(seed)) for seed in range(4))
    panel.store.add_ranking(Ranking("Ranker", images, (images[2:3], images[:2] + images[3:])))
    driving.choose_person(page, "Ranker")
    driving.open_tab(page, "Taste")
    row = page.locator("#palate-answers > li")
    expect(row).to_have_count(1, timeout=driving.WAIT)
    assert images[2] in row.locator("img").first.get_attribute("src")
    row.get_by_role("button", name="Delete this answer").click()
    expect(row).to_have_count(0, timeout=driving.WAIT)
    page.get_by_role("button", name="Undo", exact=True).last.click()
    expect(row).to_have_count(1, timeout=driving.WAIT)
    assert panel.store.count("Ranker") == 1


def test_a_half_life_is_set_and_taken_back(taste):
    taste.locator(".pl-half-life summary").click()
    field = taste.get_by_label("Half-life, in days")
    field.fill("30")
    with taste.expect_response("**/taste/half-life"):
        field.press("Enter")
    taste.reload()
    driving.open_tab(taste, "Taste")
    expect(field).to_have_value("30")
    field.fill("")
    with taste.expect_response("**/taste/half-life"):
        field.blur()
    expect(taste.locator(".pl-half-life:not([open])")).to_be_visible()


def test_people_and_taste_say_the_same_number(taste):
    number = taste.locator(".pl-figure strong").inner_text()
    driving.open_tab(taste, "People")
    row = taste.locator("#palate-people-rows li", has_text="Söhne")
    expect(row.locator(".pl-known")).to_have_text(re.compile(re.escape(number)), timeout=driving.WAIT)
