"""Three tastes as a triangle under Generate, in a real Chromium: mouse, keyboard, finger, user files, sliders."""

import driving
import panel_fakes as fakes
import pytest
import torch
from palate.adapters.files import save_user
from palate.adapters.ppd import User

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A panel in this process with three people in it."""
    with fakes.panel_here(tmp_path_factory.mktemp("blend"), [("me", 4), ("Ada", 4), ("Bob", 4)]) as panel:
        yield panel.url


@pytest.fixture
def page(browser, address):
    """Generate with three people in the list; fails the test when the page logs an error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(driving.WAIT)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{address}#generate")
    page.wait_for_selector('[data-part="method"] option[value="encoder"]', state="attached")
    for name in ("Ada", "Bob"):
        part(page, "add").select_option(f"person:{name}")
    yield page
    context.close()
    assert wrong == []


def part(page, name):
    return page.locator(f'[data-part="{name}"]')


def weights(page):
    return page.locator(".pl-jump output").all_inner_texts()


def paint(page):
    page.locator('[data-act="paint"]').click()
    rested(page)


def rested(page):
    """Wait until nothing is painted any more."""
    page.wait_for_function("() => document.querySelector('.pl-frames img.pl-on')")
    expect(part(page, "working")).to_be_hidden()


def used(page):
    """What the picture on the easel was made with."""
    chosen = page.locator(".pl-frames img.pl-on").get_attribute("data-id")
    return page.evaluate("id => window.palateKit.ask(`gallery/${id}`)", chosen)


def test_the_point_is_dragged_and_the_picture_follows(page):
    assert weights(page) == ["34 %", "33 %", "33 %"]
    paint(page)
    assert page.locator(".pl-marks circle").count() == 7  # three corners, three middles, the centre
    box = page.locator(".pl-triangle svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.65)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.85, steps=5)
    assert int(weights(page)[1].split()[0]) > 60
    expect(part(page, "tag")).to_contain_text("nearest so far")
    page.mouse.up()
    rested(page)
    expect(part(page, "tag")).not_to_contain_text("nearest")
    told = {one["source"]: one["weight"] for one in used(page)["tastes"]}
    assert told["person:Ada"] > 0.6 and abs(sum(told.values()) - 1) < 1e-6


def test_arrow_keys_move_the_point_and_a_corner_takes_it_whole(page):
    point = page.locator(".pl-point")
    point.focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    first, second, third = (int(text.split()[0]) for text in weights(page))
    assert first > 45 and abs(second - third) <= 1 and first + second + third == 100
    assert point.get_attribute("aria-valuetext") == f"Your taste {first} %, Ada {second} %, Bob {third} %"
    page.keyboard.press("Home")
    assert weights(page) == ["34 %", "33 %", "33 %"]
    page.get_by_role("button", name="Only Bob").click()
    assert weights(page) == ["0 %", "0 %", "100 %"]
    page.reload()
    expect(page.locator(".pl-jump output").nth(2)).to_have_text("100 %")


def test_two_and_four_are_sliders_and_three_may_be(page):
    page.get_by_role("button", name="Sliders").click()
    slider = page.locator('[data-source="person:Ada"]')
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".pl-part output").nth(1)).to_have_text("−1")
    page.get_by_role("button", name="Triangle").click()
    assert weights(page)[1] == "0 %"
    page.get_by_label("Remove Ada").click()
    expect(page.locator(".pl-triangle")).to_have_count(0)
    assert page.locator(".pl-part output").all_inner_texts() == ["1", "0.96"]


def test_a_dropped_user_file_is_a_corner_and_the_denoiser_follows(page, tmp_path):
    page.get_by_label("Remove Bob").click()
    user = User(torch.ones(2, 3), fakes.FakePPD.identity, person="Zoe", pairs=4)
    driving.drop_file(page, "zoe.safetensors", save_user(user, tmp_path / "zoe").read_bytes())
    expect(page.locator(".pl-say")).to_contain_text("Added the taste of Zoe, as a user file")
    page.locator(".pl-say").get_by_text("Use it").click()
    expect(part(page, "method")).to_have_value("user")
    expect(page.get_by_role("button", name="Only Zoe (user file)")).to_be_visible()
    paint(page)
    assert used(page)["method"] == "user"
    part(page, "method").select_option("auto")
    expect(page.locator(".pl-blend .pl-trouble")).to_contain_text("A user file only moves the denoiser")


def test_the_way_that_was_chosen_outlives_typing_while_the_model_loads(page):
    part(page, "method").select_option("user")
    waiting = []
    page.route("**/palate/api/model", lambda request: waiting.append(request))
    with page.expect_request("**/palate/api/model"):
        page.reload()
    part(page, "prompt").press_sequentially("x")
    assert page.evaluate("() => window.palateKit.wish().method") == "user"
    for request in waiting:
        request.continue_()
    page.wait_for_selector('[data-part="method"] option[value="encoder"]', state="attached")
    expect(part(page, "method")).to_have_value("user")


def test_four_answers_and_the_pictures_change(page):
    page.goto(page.url.replace("#generate", "#compare"))
    page.evaluate("() => window.palate.use('Newcomer')")
    before = ""
    for _ in range(4):
        before = driving.next_pair(page, before)
        expect(page.locator("#palate-try")).to_be_hidden()
        page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Four answers already change a picture: see it").click()
    expect(page.locator("#palate-page-generate")).to_be_visible()
    rested(page)
    told = used(page)
    assert (told["method"], told["tastes"][0]["source"]) == ("user", "person:Newcomer")
    expect(part(page, "turned")).to_contain_text("takes the best of 3")


def test_files_and_pictures_are_dragged_out_and_that_brings_nothing_in(page):
    paint(page)
    page.locator("#palate-tab-share").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="As a user file").click()
    assert download.value.suggested_filename == "me.safetensors"
    expect(page.locator('[data-file="me.safetensors"]')).to_be_visible()
    dragged = page.evaluate(
        """() => [".pl-tile", "#palate-share-page a[download]"].map((what) => {
          const dataTransfer = new DataTransfer(), element = document.querySelector(what);
          element.dispatchEvent(new DragEvent("dragstart", { dataTransfer, bubbles: true }));
          return dataTransfer.getData("DownloadURL");
        })"""
    )
    assert dragged[0].startswith("image/png:a-red-star-") and ".png:http://127.0.0.1:" in dragged[0]
    assert dragged[1].endswith("/palate/api/users/me.safetensors")
    driving.drop_file(page, "x.safetensors", bytes([1, 2, 3]))
    expect(page.locator(".pl-say")).not_to_contain_text("Cannot read")


def test_on_a_phone_the_picture_stays_in_sight_beside_the_triangle(browser, address):
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    context.set_default_timeout(driving.WAIT)
    page = context.new_page()
    page.goto(f"{address}#generate")
    page.wait_for_selector('[data-part="method"] option[value="encoder"]', state="attached")
    for name in ("Ada", "Bob"):
        if not page.get_by_role("button", name=f"Only {name}").count():
            part(page, "add").select_option(f"person:{name}")
    paint(page)
    page.locator(".pl-point").evaluate("point => scrollBy(0, point.getBoundingClientRect().top - 600)")
    picture, point = part(page, "canvas").bounding_box(), page.locator(".pl-point").bounding_box()
    assert picture["y"] > 0 and picture["y"] + picture["height"] < point["y"] < 740
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    context.close()


def test_what_is_said_late_of_another_person_is_not_shown(page):
    page.locator("#palate-tab-share").click()
    expect(part(page, "own")).to_contain_text("answers as me")
    waiting = []
    page.route("**/palate/api/own?person=Nobody", lambda request: waiting.append(request))
    with page.expect_request("**/palate/api/own?person=Nobody"):
        page.evaluate("() => window.palate.use('Nobody')")
    page.evaluate("() => window.palate.use('Ada')")
    expect(part(page, "own")).to_contain_text("answers as Ada")
    with page.expect_response("**/palate/api/own?person=Nobody") as late:
        waiting[0].continue_()
    late.value.finished()
    page.evaluate("() => new Promise((go) => setTimeout(go, 50))")
    assert "answers as Ada" in part(page, "own").inner_text()
