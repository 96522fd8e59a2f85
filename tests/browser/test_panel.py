"""The panel in a real Chromium: click, keys, undo, all tabs, nobody else's server. The model is a quick fake."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from palate.adapters.comparisons import PreferenceStore

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
FAKES = Path(__file__).parents[1] / "panel_fakes.py"
fakes = SimpleNamespace(**runpy.run_path(str(FAKES)))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START = 120.0  # s for the panel to start on a busy machine; only ever waited for when something is broken
WAIT = 30_000  # ms, likewise
NEW_PAIR = """before => {
  const stage = document.querySelector("#palate-stage .pl-stage[data-view]");
  return stage && stage.dataset.ready === stage.dataset.view && stage.dataset.ticket !== before;
}"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install chromium to run the browser tests")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def panel(browser, tmp_path_factory):
    """A panel in a process of its own; gives its address and its store."""
    folder = tmp_path_factory.mktemp("panel")
    process = subprocess.Popen(
        [sys.executable, str(FAKES), str(folder / "store")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "errors.txt").open("w"),
        text=True,
        env={**os.environ, "PALATE_HOME": str(folder / "home"), "GRADIO_TEMP_DIR": str(folder / "gradio")},
    )
    late = threading.Timer(START, process.kill)
    late.start()
    url = process.stdout.readline().strip()
    late.cancel()
    assert url.startswith("http://127.0.0.1:"), "the panel did not start"
    with PreferenceStore(folder / "store") as store:
        yield SimpleNamespace(url=url, store=store, folder=folder)
    with browser.new_context() as context:  # an open page must not hold it up, nor leave a traceback behind
        last = context.new_page()
        last.goto(url)
        next_pair(last)
        process.stdin.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.stdout.close()
    assert "Traceback" not in (folder / "errors.txt").read_text()


@pytest.fixture
def page(browser, panel):
    """A page that fails the test when it logs an error or asks a foreign host for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WAIT)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    local = (panel.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
    page.goto(panel.url)
    next_pair(page)
    yield page
    context.close()
    assert wrong == []


def next_pair(page, before=""):
    """Wait for a pair other than `before` and return its ticket."""
    page.wait_for_function(NEW_PAIR, arg=before)
    return page.get_attribute(".pl-stage", "data-ticket")


def choose_person(page, name):
    """Type a name, as a new person would, and return the ticket of their first pair."""
    before = page.get_attribute(".pl-stage", "data-ticket")
    page.fill("#palate-person input", name)
    page.press("#palate-person input", "Enter")
    ticket = next_pair(page, before)
    sync_api.expect(page.locator("#palate-person input")).to_have_value(name)
    return ticket


def upload(page, path):
    with page.expect_file_chooser() as chooser:
        page.click("#palate-load")
    chooser.value.set_files(str(path))


def outcomes(panel, person):
    return [comparison.outcome for comparison in panel.store.comparisons(person)]


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def test_click_keys_and_undo_reach_the_store(page, panel):
    ticket = choose_person(page, "Ada")
    page.click('[data-choose="left"]')
    ticket = next_pair(page, ticket)
    for key in ("b", "ArrowLeft", "t", "x", "s", "u"):
        page.keyboard.press(key)
        ticket = next_pair(page, ticket)
    assert outcomes(panel, "Ada") == ["left", "right", "left", "tie", "both_bad"]
    page.keyboard.press("Control+z")
    next_pair(page, ticket)
    sync_api.expect(page.locator("#palate-status")).to_contain_text("4 answers so far")
    assert outcomes(panel, "Ada") == ["left", "right", "left", "tie"]
    stored = panel.store.comparisons("Ada")[0]
    assert stored.seconds is not None
    assert stored.source == "panel"
    assert panel.store.has_image(stored.chosen)


def test_the_picture_that_was_clicked_is_the_one_chosen(page, panel):
    ticket = choose_person(page, "Bea")
    image = page.get_attribute('[data-choose="right"] img', "src").rsplit("/", 1)[-1]
    page.click('[data-choose="right"]')
    next_pair(page, ticket)
    assert panel.store.comparisons("Bea")[0].chosen == image


def test_two_quick_clicks_are_one_answer(page, panel):
    ticket = choose_person(page, "Cy")
    page.evaluate("() => { for (let i = 0; i < 2; i++) document.getElementById('palate-left').click(); }")
    ticket = next_pair(page, ticket)
    page.keyboard.press("t")
    next_pair(page, ticket)
    assert outcomes(panel, "Cy") == ["left", "tie"]


def test_keys_are_letters_while_typing(page, panel):
    ticket = choose_person(page, "Dee")
    page.click("#palate-source button")
    page.locator("#palate-prompt textarea").press_sequentially("a tall box, bad sun")
    assert page.get_attribute(".pl-stage", "data-ticket") == ticket
    page.press("#palate-prompt textarea", "Enter")
    next_pair(page, ticket)
    sync_api.expect(page.locator(".pl-prompt").first).to_have_text("a tall box, bad sun")
    assert outcomes(panel, "Dee") == []


def test_a_folder_of_ones_own_pictures(page, panel):
    folder = panel.folder / "pictures"
    folder.mkdir()
    for number in range(3):
        fakes.picture(number).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    ticket = choose_person(page, "Eli")
    page.click("#palate-source button")
    page.get_by_text("A folder of your own pictures").click()
    page.fill("#palate-folder input, #palate-folder textarea", str(folder))
    page.click("#palate-use")
    ticket = next_pair(page, ticket)
    for _ in range(2):
        page.keyboard.press("a")
        ticket = next_pair(page, ticket)
    page.keyboard.press("a")
    sync_api.expect(page.locator(".pl-message").first).to_contain_text("every pair of the 3 pictures")
    sync_api.expect(page.locator("#palate-status")).to_contain_text("skipped 1 file that can't be read")
    assert len(outcomes(panel, "Eli")) == 3


def test_a_folder_that_is_none_is_a_message_and_the_pair_stays(page):
    ticket = page.get_attribute(".pl-stage", "data-ticket")
    page.click("#palate-source button")
    page.get_by_text("A folder of your own pictures").click()
    page.fill("#palate-folder input, #palate-folder textarea", "/no/such/folder")
    page.click("#palate-use")
    sync_api.expect(page.locator(".toast-body")).to_contain_text("is no folder")
    assert page.get_attribute(".pl-stage", "data-ticket") == ticket


def test_learned_speaks_plainly_before_there_are_answers(page):
    choose_person(page, "Nobody yet")
    open_tab(page, "Taste")
    sync_api.expect(page.locator("#palate-learned")).to_contain_text("Nothing learned yet")


def test_learned_shows_accuracy_and_pictures_then_saves_and_loads(page, panel):
    fakes.answer_some(panel.store, person="Fay", number=24)
    choose_person(page, "Fay")
    open_tab(page, "Taste")
    sync_api.expect(page.locator(".pl-figure strong")).to_have_text(re.compile(r"\d+\s%"))
    assert page.locator(".pl-row img").count() == 16
    page.click("#palate-save")
    sync_api.expect(page.locator("#palate-file-note")).to_contain_text("Saved as")
    (saved,) = (panel.folder / "home" / "tastes").glob("*.safetensors")
    upload(page, saved)
    sync_api.expect(page.locator("#palate-file-note")).to_contain_text("taste of Fay")
    broken = panel.folder / "broken.safetensors"
    broken.write_bytes(b"no taste at all")
    upload(page, broken)
    sync_api.expect(page.locator(".toast-body")).to_contain_text("Cannot read")


def test_dark_is_remembered(page, panel):
    before = page.evaluate("() => document.body.classList.contains('dark')")
    page.click("#palate-theme")
    page.reload()
    next_pair(page)
    assert page.evaluate("() => document.body.classList.contains('dark')") is not before


def test_a_phone_shows_the_whole_pair_without_scrolling(browser, panel):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(panel.url)
    next_pair(page)
    box = page.locator("#palate-undo").bounding_box()
    assert box["y"] + box["height"] <= 844
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    context.close()


def test_other_pages_are_turned_away(page, panel):
    request = page.request
    assert request.get(panel.url, headers={"Host": "evil.example"}).status == 403
    join = f"{panel.url}gradio_api/queue/join"
    assert request.post(join, headers={"Origin": "http://evil.example"}, data={}).status == 403
    assert request.get(f"{panel.url}palate/pictures/..%2f..%2fstore.sqlite").status == 404
