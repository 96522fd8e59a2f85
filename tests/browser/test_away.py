"""The panel hangs, or is away for a while: the page says so, keeps what was clicked, and goes on by itself."""

import time

import driving
import panel_fakes as fakes
import pytest

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

EVERYTHING = "**/palate/api/**"
SAID = ".pl-say"
# Every limit is this much shorter.
HURRY = """() => {
  const real = AbortSignal.timeout.bind(AbortSignal);
  AbortSignal.timeout = (time) => real(time / 100);
}"""

# Nothing ever comes from this path.
HANG = """(path) => {
  const real = window.fetch;
  const never = (signal) => new Promise((_, end) => signal?.addEventListener("abort", () => end(signal.reason)));
  const hang = ({ signal }) => ((window.hanging = true), never(signal));
  window.fetch = (address, options = {}) => (String(address).endsWith(path) ? hang(options) : real(address, options));
}"""


@pytest.fixture
def page(visit):
    page = visit()
    driving.next_pair(page)
    return page


def test_what_hangs_ends_and_answers_behind_it_are_stored(page, panel):
    ticket = driving.choose_person(page, "Una")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    page.evaluate(HURRY)
    page.evaluate(HANG, "/undo")
    page.keyboard.press("z")
    page.wait_for_function("() => window.hanging")
    page.keyboard.press("ArrowLeft")
    driving.next_pair(page, ticket)
    sync_api.expect(page.locator(SAID)).to_contain_text("What you just asked for may not have been done")
    driving.settle(page)
    assert driving.outcomes(panel.store, "Una") == ["left"]


@pytest.mark.parametrize("tab", ["people", "taste"])
def test_a_tab_says_that_the_panel_is_away_and_shows_what_is_there_when_it_is_back(page, tab):
    page.evaluate(HURRY)
    page.route(EVERYTHING, lambda route: route.fulfill(body="no JSON"))
    page.evaluate("tab => window.palate.show(tab)", tab)
    away = page.locator(SAID, has_text="Palate doesn't answer")
    sync_api.expect(away).to_be_visible()
    with page.expect_request(f"**/palate/api/{tab}", timeout=30_000):
        page.unroute(EVERYTHING)
    sync_api.expect(page.locator(f"{SAID}[data-away]")).to_have_count(0)


# It is said after two seconds that something takes long, and after three it ends.
IMPATIENT = """() => {
  const real = window.setTimeout;
  const shorter = (time) => (time >= 100_000 ? time / 50 : time >= 15_000 ? time / 10 : time);
  window.setTimeout = (done, time, ...given) => real(done, shorter(time), ...given);
}"""


@pytest.mark.parametrize("moves", [True, False])
def test_a_file_that_comes_slowly_is_sent_to_its_end_unless_nothing_moves(page, moves):
    page.evaluate(IMPATIENT)
    page.evaluate("""() => {
      const real = palateKit.say;
      window.said = [];
      palateKit.say = (text, ...more) => (said.push(text), real(text, ...more));
    }""")
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    speed = 60_000 if moves else 1  # bytes a second
    network.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": speed},
    )
    began = time.monotonic()
    page.evaluate(
        """() => void palateKit.ask("tastes?name=slow.png", new Blob([new Uint8Array(300_000)]))
          .catch((error) => (window.end = error.message))"""
    )
    page.wait_for_function("() => window.end", timeout=20_000)
    end, took = page.evaluate("() => window.end"), time.monotonic() - began
    if moves:
        assert "Cannot read" in end and took > 4.0
        assert not [text for text in page.evaluate("() => said") if "takes long" in text]
    else:
        assert "may not have been done" in end and took < 10.0


def test_a_job_is_followed_over_a_while_without_the_panel(page):
    page.route("**/palate/api/jobs/7", lambda route: route.fulfill(body="no JSON"))
    page.evaluate("() => void (window.end = window.palateKit.follow('7', () => {}).catch((error) => error))")
    page.locator(SAID).wait_for()
    page.unroute("**/palate/api/jobs/7")
    page.route("**/palate/api/jobs/7", lambda route: route.fulfill(json={"state": "done"}))
    assert page.evaluate("() => window.end") == {"state": "done"}


def test_a_picture_that_comes_into_a_folder_is_shown_soon(page, panel):
    folder = panel.folder / "growing"
    folder.mkdir()
    for number in range(2):
        fakes.picture(number).save(folder / f"{number}.png")
    ticket = driving.choose_person(page, "Gro")
    page.click("#palate-about")
    page.get_by_text("Pictures of your own").click()
    page.fill("#palate-wanted-folder", str(folder))
    page.click("#palate-use")
    ticket = driving.next_pair(page, ticket)
    page.keyboard.press("a")
    sync_api.expect(page.locator(".pl-stopped")).to_contain_text("every pair of the 2 pictures")
    asked = []
    page.on("request", lambda request: asked.append(1) if request.url.endswith("/api/compare") else None)
    page.wait_for_timeout(2500)
    assert 1 <= len(asked) <= 5
    fakes.picture(2).save(folder / "2.png")
    driving.next_pair(page, ticket)
    sync_api.expect(page.locator(".pl-stopped")).to_be_hidden()
