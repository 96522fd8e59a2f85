"""Train in a real Chromium: begin, reload, stop, go on, and the file; by keyboard and on a phone."""

import re

import driving
import panel_fakes as fakes
import pytest
from palate.adapters.finetune.usual import USUAL_LOSS

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect


@pytest.fixture
def train(visit, panel):
    """Give a function that opens the tab of somebody with answers."""
    if panel.store.count("me") < 30:
        fakes.answer_some(panel.store, number=30)

    def opened(**options):
        page = visit("#train", **options)
        expect(page.locator('[data-part="train-plan"]')).to_contain_text("your answers train", timeout=driving.WAIT)
        return page

    return opened


def verdict(page):
    return page.locator('[data-part="train-verdict"]')


def test_a_training_outlives_its_page_and_goes_on_where_it_was_stopped(train, tmp_path):
    page = train()
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator('[data-part="train-accuracy"] circle').first).to_be_visible(timeout=driving.WAIT)
    page.reload()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(verdict(page)).to_contain_text(re.compile(r"After \d+ of 1000 steps"), timeout=driving.WAIT)
    page.get_by_role("button", name=re.compile("Go on from step")).click()
    expect(verdict(page)).to_contain_text("Better than none", timeout=driving.WAIT)
    expect(page.locator('[data-part="train-samples"] img')).to_have_count(4)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the LoRA").click()
    assert download.value.suggested_filename == f"me-fake-{USUAL_LOSS}.safetensors"
    page.reload()
    expect(verdict(page)).to_contain_text("Better than none", timeout=driving.WAIT)
    expect(page.locator('[data-part="train-loss"] title')).to_contain_text("after 1000 of 1000 steps")


def test_by_keyboard_on_a_phone_and_what_is_typed_wrong(train):
    page = train(viewport={"width": 390, "height": 844})
    page.get_by_label("What you chose over the other").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("The same, more carefully")).to_be_checked()
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Rank").fill("a lot")
    page.keyboard.press("Enter")
    expect(page.locator(".pl-say")).to_contain_text("rank is 'a lot'; expected a number", timeout=driving.WAIT)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_enabled()


def test_which_answers_are_left_out_is_shown(train):
    page = train(viewport={"width": 1280, "height": 500})
    expect(page.get_by_label("Leave out what looks like slips")).to_be_checked()
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Hold the model in bytes").check()
    with page.expect_request(lambda one: one.method == "POST" and one.url.endswith("/api/train")) as begun:
        page.get_by_role("button", name="Train", exact=True).click()  # so far down that its progress was above it
    assert begun.value.post_data_json["frozen"] == "int8"
    expect(page.locator('[data-part="train-head"]')).to_be_in_viewport(ratio=1)
    left_out = page.locator('[data-part="train-left-out"]')
    expect(left_out).to_contain_text("Left out: 1 of 34 answers", timeout=driving.WAIT)
    left_out.get_by_text("Which", exact=True).click()
    expect(left_out.locator("img")).to_have_count(2)
    assert all(left_out.locator("img").evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 0)"))
    expect(verdict(page)).to_contain_text("Better than none", timeout=driving.WAIT)
