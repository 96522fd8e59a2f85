"""Generate and Share in a real Chromium, by mouse and by keyboard. The model is a quick fake in this process."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import driving
import panel_fakes as fakes
import pytest
from palate.adapters.errors import PPDError

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
WAIT = 30_000  # ms, only ever waited for when something is broken
expect = sync_api.expect


class House:
    """A panel in this process that can be closed and opened again at the same address."""

    def __init__(self, folder):
        self.folder, self.painter, self.port = folder, fakes.FakePainter(), 0
        self.open()

    def open(self):
        from palate.ui.panel.server import Panel
        from palate.ui.panel.studio import Studio

        self.studio = Studio(self.folder / "store", fakes.fake_tools(self.painter))
        self.panel = Panel(self.studio, port=self.port)
        self.port, self.url = self.panel.port, self.panel.url
        self._thread = threading.Thread(target=self.panel.run, daemon=True)
        self._thread.start()

    def close(self):
        self.painter.gate.set()
        self.panel.stop()
        self._thread.join(WAIT / 1000)
        assert not self._thread.is_alive()

    def given(self, person):
        """Answers that were given under Generate."""
        return [one for one in self.studio.store.comparisons(person) if one.source == "panel:generate"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    places = {"PALATE_HOME": str(folder / "home"), "GRADIO_TEMP_DIR": str(folder / "gradio")}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    house = House(folder)
    for person in ("me", "Ada", "Bob"):
        fakes.answer_some(house.studio.store, person=person, number=4)
    yield house
    house.close()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def browser():
    if driving.CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install chromium to run the browser tests")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=driving.CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, house):
    """The tab Generate of somebody new; fails the test when the page logs an error or asks a foreign host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(WAIT)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    local = (house.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
    visit(page, house, "generate")
    yield page
    house.painter.gate.set()
    context.close()
    assert wrong == []


def visit(page, house, tab, prompt="a red star"):
    page.goto(f"{house.url}#{tab}")
    page.wait_for_function("() => window.palateKit?.person()")
    if tab == "generate":
        expect(part(page, "prompt")).to_have_value(prompt)
        page.wait_for_selector('[data-part="method"] option[value="encoder"]', state="attached")


def part(page, name):
    return page.locator(f'[data-part="{name}"]')


def act(page, name):
    return page.locator(f'[data-act="{name}"]')


def painted(page, strengths=5):
    """Wait until everything is painted and loaded."""
    expect(page.locator(".pl-frames img")).to_have_count(strengths)
    expect(part(page, "working")).to_be_hidden()
    page.wait_for_function("() => [...document.querySelectorAll('.pl-frames img')].every((one) => one.naturalWidth)")


def paint(page, prompt="a red star", strengths=5):
    part(page, "prompt").fill(prompt)
    act(page, "paint").click()
    painted(page, strengths)


def shown(page):
    """Strengths of the picture on top."""
    return page.eval_on_selector_all(".pl-frames img.pl-on", "all => all.map((one) => Number(one.dataset.strength))")


def slide(page, value):
    part(page, "strength").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def test_the_slider_flips_between_painted_pictures_and_asks_nobody(page):
    paint(page, "a slider")
    expect(page.locator(".pl-tile").first).to_contain_text("a slider")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for value, nearest in ((0, 0), (0.2, 0), (0.4, 0.5), (1.3, 1.5), (2, 2), (1, 1)):
        slide(page, value)
        assert shown(page) == [nearest]
    expect(part(page, "turned")).to_have_text("turns the prompt by 12° of 60° at most")
    box = part(page, "strength").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert shown(page) == [2]
    page.keyboard.press("Home")
    assert shown(page) == [0]
    page.wait_for_timeout(200)
    # A tile further down may load its picture now, and the typed prompt may get its words.
    assert [url for url in asked if not url.endswith((".png", "/words"))] == []


def test_a_click_says_what_is_liked_in_the_prompt_and_undo_takes_it_back(page, house):
    part(page, "prompt").fill("a lake")
    word = page.locator('.pl-word[data-sign="+"]').first
    text = word.inner_text()
    word.click()
    expect(part(page, "prompt")).to_have_value(f"a lake, {text}")
    expect(page.locator('.pl-word[data-sign="+"]')).to_have_count(0)  # the fake's only kind of words is said now
    page.keyboard.press("Control+z")
    expect(part(page, "prompt")).to_have_value("a lake")
    less = page.locator('.pl-word[data-sign="−"]').first
    text = less.inner_text()
    less.focus()
    page.keyboard.press("Enter")
    expect(part(page, "negative")).to_have_value(text)
    assert part(page, "prompt").input_value() == "a lake"


def test_for_me_paints_with_all_that_the_answers_give_and_the_slider_stays(page, house):
    part(page, "prompt").fill("a lake")
    act(page, "for-me").click()
    painted(page, 6)  # 0.7 beside the slider's own
    expect(part(page, "turned")).to_contain_text("tells the denoiser and takes the best of 3.")
    assert part(page, "strength").input_value() == "0.7" and shown(page) == [0.7]
    expect(page.locator(".pl-tile").first).to_contain_text("a lake, ")  # with words
    assert part(page, "prompt").input_value() == "a lake"
    chosen = page.locator(".pl-thumbs small").all_inner_texts()
    assert len(chosen) == 2 and set(chosen[:1]) < {"1", "2", "3"} and set(chosen[1:]) < {"4", "5", "6"}
    page.locator(".pl-thumbs button").nth(1).click()  # its slider is painted, and no other picture is chosen
    painted(page, 6)
    assert page.locator(".pl-thumbs small").all_inner_texts() == chosen
    expect(part(page, "turned")).to_contain_text("takes the best of 3.")  # that made it, too
    slide(page, 0)
    assert shown(page) == [0]


def test_for_me_again_after_other_answers_shows_only_what_they_choose(page, house):
    fakes.answer_some(house.studio.store, person="Fay", number=6)
    page.evaluate("() => window.palate.use('Fay')")
    seeds = []
    for _ in range(2):
        with page.expect_response("**/palate/api/paint"):
            act(page, "for-me").click()
        painted(page, 6)
        seeds.append(page.locator(".pl-thumbs small").all_inner_texts())
        for one in house.studio.store.comparisons("Fay"):  # they change their mind
            house.studio.store.change(one.id, "right" if one.outcome == "left" else "left")
    assert seeds[0] != seeds[1] and list(map(len, seeds)) == [2, 2]


def test_for_me_says_what_it_did_where_the_prompt_is_moved_as_well(page, house, monkeypatch):
    def profiles_only(*given):
        raise PPDError("Cannot make an embedding here: the PPD knows people by profiles.")

    monkeypatch.setattr(house.studio, "tools", replace(house.studio.tools, user=profiles_only))
    act(page, "for-me").click()
    painted(page)  # at 1, which is one of the slider's own
    expect(part(page, "turned")).to_contain_text("takes the best of 3. It turns the prompt by 12°")


def test_pressing_the_picture_shows_it_without_the_taste(page):
    paint(page, "a hold")
    assert shown(page) == [1]
    act(page, "hold").dispatch_event("pointerdown", {"button": 0})
    page.wait_for_function("() => document.querySelector('.pl-frames .pl-on').dataset.strength === '0'")
    act(page, "hold").dispatch_event("pointerup", {"button": 0})
    assert shown(page) == [1]


def test_preferring_is_stored_once_and_can_be_undone(page, house):
    before = len(house.given("me"))
    paint(page, "a choice")
    act(page, "prefer").dblclick()
    expect(act(page, "prefer")).to_contain_text("Noted")
    (answer,) = house.given("me")[before:]
    assert (answer.prompt, answer.left_seed, answer.model) == ("a choice", 1, "fake")
    act(page, "undo-prefer").click()
    expect(act(page, "prefer")).to_contain_text("I prefer this one")
    assert len(house.given("me")) == before


def test_a_whole_visit_by_keyboard(page, house):
    def go_to(name):
        page.wait_for_function(
            "() => { document.activeElement?.blur(); return document.activeElement === document.body; }"
        )
        for _ in range(60):
            page.keyboard.press("Tab")
            found = page.evaluate("() => document.activeElement.dataset.part ?? document.activeElement.dataset.act")
            if found == name:
                return
        raise AssertionError(f"no way to {name} by Tab")

    before = len(house.given("me"))
    go_to("prompt")
    page.keyboard.press("Control+a")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    painted(page)
    go_to("strength")
    page.keyboard.press("End")
    assert shown(page) == [2]
    page.keyboard.down("b")
    assert shown(page) == [0]
    page.keyboard.up("b")
    page.keyboard.press("p")
    expect(act(page, "prefer")).to_contain_text("Noted")
    assert len(house.given("me")) == before + 1
    page.keyboard.press("u")
    expect(act(page, "prefer")).to_contain_text("I prefer this one")
    page.keyboard.press("f")
    expect(part(page, "viewer")).to_be_visible()
    expect(part(page, "facts")).to_contain_text("turned by 24°")
    page.keyboard.press("ArrowLeft")
    expect(part(page, "facts")).to_contain_text("turned by 18°")
    page.keyboard.press("Escape")
    expect(part(page, "viewer")).to_be_hidden()


def test_several_tastes_with_weights_are_in_the_picture(page):
    part(page, "add").select_option("person:Ada")
    weight = page.locator('[data-source="person:Ada"]')
    weight.focus()
    page.keyboard.press("Home")
    expect(page.locator(".pl-part output").nth(1)).to_have_text("−1")
    paint(page, "two tastes")
    page.locator(".pl-tile").first.click()
    expect(part(page, "facts")).to_contain_text("me 1, Ada −1")
    act(page, "close").click()
    page.get_by_label("Remove Ada").click()
    assert page.locator(".pl-part").count() == 1


def test_what_was_painted_is_there_after_a_reload_and_a_restart(page, house):
    paint(page, "it stays")
    slide(page, 2)
    part(page, "strength").dispatch_event("change")
    page.reload()
    expect(part(page, "prompt")).to_have_value("it stays")
    painted(page)
    assert shown(page) == [2]
    expect(page.locator(".pl-tile").first).to_contain_text("it stays")
    page.goto("about:blank")  # what a page asks for in the background would be refused meanwhile, and logged
    house.close()
    house.open()
    visit(page, house, "generate", "it stays")
    painted(page)
    page.locator(".pl-tile").first.click()
    act(page, "star").click()
    expect(act(page, "star")).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as download:
        act(page, "download").click()
    assert b"it stays\nSteps: 3" in Path(download.value.path()).read_bytes()
    act(page, "again").click()
    expect(part(page, "prompt")).to_have_value("it stays")


def test_everybody_sees_their_own_gallery_and_may_look_at_all(page):
    whose, tiles = part(page, "whose"), part(page, "grid").locator("button")
    paint(page, "for me")
    page.evaluate("() => window.palate.use('Zoe')")
    expect(part(page, "none")).to_be_visible()
    expect(tiles).to_have_count(0)
    paint(page, "only for Zoe", strengths=1)
    expect(tiles).to_have_count(2)
    whose.select_option(label="Everybody's")
    expect(tiles.nth(2)).to_be_visible()
    whose.select_option(label="Yours")
    expect(tiles).to_have_count(2)
    page.evaluate("() => window.palate.use('me')")
    expect(page.get_by_label("only for Zoe")).to_have_count(0)


def test_seed_minus_one_is_another_one_each_time_and_what_is_no_seed_is_said(page):
    seeds = []
    part(page, "seed").fill("-1")
    for _ in range(2):
        paint(page, "some seed")
        seeds.append(page.evaluate("() => JSON.parse(localStorage.getItem('palate-easel:me')).seed"))
    assert len(set(seeds)) == 2
    part(page, "seed").fill("abc")
    act(page, "paint").click()
    expect(part(page, "empty")).to_contain_text("seed is 'abc'; expected a whole number")
    part(page, "seed").fill("1")


def test_a_deleted_picture_can_be_brought_back(page):
    paint(page, "in and out")
    tiles = page.locator(".pl-tile", has_text="in and out")
    expect(tiles).not_to_have_count(0)  # the gallery is asked for again when all is painted
    count = tiles.count()
    tiles.first.click()
    act(page, "delete").click()
    expect(tiles).to_have_count(count - 1)
    page.locator(".pl-say").get_by_text("Undo").click()
    expect(tiles).to_have_count(count)


def test_what_is_looked_at_stays_when_the_one_before_is_deleted_late(page):
    paint(page, "one that goes")
    page.keyboard.press("f")
    viewer, held = part(page, "viewer"), []
    expect(viewer).to_be_visible()
    page.route("**/gallery/*/delete", lambda route: held.append(route))
    viewer.locator('[data-act="delete"]').click()
    while not held:
        page.wait_for_timeout(20)
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator('[data-act="next"]')).to_be_enabled()
    held[0].continue_()
    expect(page.locator(".pl-say")).to_contain_text("Deleted.")
    expect(viewer).to_be_visible()


def test_painting_can_be_stopped(page, house):
    house.painter.gate.clear()
    part(page, "prompt").fill("never mind")
    act(page, "paint").click()
    with page.expect_response("**/stop"):  # it may be sent a moment later, when the work has a number
        act(page, "stop").click()
    house.painter.gate.set()
    expect(part(page, "working")).to_be_hidden()
    expect(part(page, "empty")).to_contain_text("Stopped")


def test_what_is_painted_for_one_person_is_not_shown_to_the_next(page, house):
    house.painter.gate.clear()
    part(page, "prompt").fill("for me alone")
    act(page, "paint").click()
    expect(part(page, "working")).to_be_visible()
    page.evaluate("() => window.palate.use('Ada')")
    expect(part(page, "working")).to_be_hidden()
    house.painter.gate.set()
    paint(page, "for Ada")
    assert page.evaluate("() => window.palateKit.kept('easel').wish.prompt") == "for Ada"
    page.evaluate("() => window.palate.use('me')")
    expect(page.locator(".pl-frames img")).to_have_count(0)


@pytest.mark.parametrize("prompt", ["word " * 2000, "🌟 (star:1.3) [x] {a|b} \\( <lora:y:1>"])
def test_any_prompt_is_painted(page, prompt):
    paint(page, prompt)


def test_no_prompt_and_no_memory_are_said_on_the_page(page, house, monkeypatch):
    part(page, "prompt").fill("  ")
    act(page, "paint").click()
    expect(part(page, "empty")).to_contain_text("the prompt is empty")

    def images(*given, **options):
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(house.painter, "images", images)
        part(page, "prompt").fill("too large")
        act(page, "paint").click()
        expect(part(page, "empty")).to_contain_text("ran out of memory at 64x64")


def test_a_taste_that_is_dropped_anywhere_is_used_under_generate(page, house):
    saved = house.studio.tools.save(house.studio.taste("Bob"), house.folder / "bob.safetensors")
    driving.drop_file(page, "from a friend.safetensors", saved.read_bytes())
    expect(page.locator(".pl-say")).to_contain_text("Added the taste of Bob")
    page.locator(".pl-say").get_by_text("Use it").click()
    expect(page.locator(".pl-part-name").nth(1)).to_have_text("Bob (file)")
    paint(page, "with a friend")
    driving.drop_file(page, "holiday.png", bytes([137, 80, 78, 71, 13, 10, 26, 10, 0, 0]))
    expect(page.locator(".pl-say")).to_contain_text("Cannot read 'holiday.png'")


def test_share_saves_lists_removes_and_brings_back(page, house):
    visit(page, house, "share")
    expect(part(page, "own")).to_contain_text("4 answers as me")
    with page.expect_download() as download:
        act(page, "save-taste").click()
    assert download.value.suggested_filename == "me.safetensors"
    row = page.locator('[data-file="me.safetensors"]')
    row.get_by_label("Remove").click()
    expect(row).to_have_count(0)
    page.locator(".pl-say").get_by_text("Undo").click()
    expect(row).to_have_count(1)
    part(page, "named").uncheck()
    with page.expect_download():
        act(page, "save-taste").click()
    expect(part(page, "tastes")).to_contain_text("somebody")


def test_an_embedding_is_made_and_downloaded(page, house):
    visit(page, house, "share")
    part(page, "embedding-name").fill("star")
    act(page, "train").click()
    expect(page.locator(".pl-say")).to_contain_text("Choose another name")
    part(page, "embedding-name").fill("my-word")
    house.painter.gate.clear()
    act(page, "train").click()
    expect(act(page, "stop-training")).to_be_visible()
    house.painter.gate.set()
    expect(page.locator(".pl-say")).to_contain_text("Saved as my-word.safetensors")
    with page.expect_download():
        page.get_by_label("Download my-word.safetensors").click()
    expect(page.locator('code [data-part="word"]').first).to_have_text("my-word")


def test_a_phone_shows_everything_in_its_width(browser, house):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    for tab in ("generate", "share"):
        visit(page, house, tab)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    context.close()
