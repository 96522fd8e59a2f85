"""Chromium, a panel with a quick fake for a model, and a page that must stay free of errors."""

import driving
import pytest
from palate.adapters.comparisons import PreferenceStore


@pytest.fixture(scope="module")
def browser():
    """A real Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if driving.CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install chromium to run the browser tests")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=driving.CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def panel(browser, tmp_path_factory):
    """A running panel: its address, its folder, its store."""
    running = driving.RunningPanel(tmp_path_factory.mktemp("panel"))
    with PreferenceStore(running.folder / "store") as store:
        running.store = store
        yield running
    with browser.new_context() as context:  # an open page must not hold it up, nor leave a traceback behind
        last = context.new_page()
        last.goto(running.url)
        driving.next_pair(last)
        assert running.stop() == 0
    assert "Traceback" not in running.errors


@pytest.fixture
def visit(browser, panel):
    """Give a function that opens pages; the test fails when one logs an error or asks a foreign host for anything."""
    wrong, contexts = [], []
    local = (panel.url, "data:", "blob:")

    def opened(address="", context=None, **options):
        if context is None:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
            contexts.append(context)
        context.set_default_timeout(driving.WAIT)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
        page.goto(panel.url + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(visit):
    """A page with a pair on it."""
    page = visit()
    driving.next_pair(page)
    return page
