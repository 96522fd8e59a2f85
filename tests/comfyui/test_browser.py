"""The Collect Pairs widget in a real browser, in both of ComfyUI's renderers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_host import ROOT, Host

pytestmark = pytest.mark.browser
EXAMPLE = ROOT / "example_workflows" / "teach_and_steer.json"
WAIT = 120_000  # milliseconds; machines that run tests are slow
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright for Python")
    path = next((p for p in ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("google-chrome")) if p), None)
    if path is None or not Path(path).exists():
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


def open_graph(host: Host, browser: Any, vue: bool) -> Any:
    """A page of ComfyUI without its first-time dialogs, in one of the two renderers."""
    settings = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": vue, "Comfy.Workflow.WarnUnsaved": False}
    host.request("/settings", settings)
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(host.url, wait_until="domcontentloaded")
    page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=WAIT)
    # ComfyUI opens a workflow of its own first, which on a busy machine would take the place of the test's.
    own = "() => { const { workflow } = window.app.extensionManager; return !workflow || workflow.activeWorkflow; }"
    page.wait_for_function(own, timeout=WAIT)
    return page


def load_example(page: Any, seed: int, person: str) -> None:
    """Load the example workflow; nothing in it may be missing. Few steps, to be quick."""
    workflow = json.loads(EXAMPLE.read_text())
    for node in workflow["nodes"]:
        if node["type"] == "KSampler":
            node["widgets_values"][:3] = [seed, "fixed", 2]
        if node["type"] in ("PalateCollectPairs", "PalateFitTaste"):
            node["widgets_values"][0] = person
    page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
    page.wait_for_selector(".palate-pairs", timeout=WAIT)
    missing = page.evaluate("() => window.app.graph.nodes.filter(n => n.has_errors || !n.comfyClass).map(n => n.type)")
    assert [kind for kind in missing if kind not in ("MarkdownNote", "Note")] == []


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_a_click_in_the_node_is_an_answer_in_the_store(host: Host, browser: Any, vue: bool) -> None:
    person = "vue" if vue else "classic"
    page = open_graph(host, browser, vue)
    load_example(page, seed=11 + vue, person=person)
    page.evaluate("() => window.app.queuePrompt(0)")
    page.wait_for_selector('.palate-pairs[data-open="2"]', timeout=WAIT)
    shown = page.locator(".palate-pairs img").first
    page.wait_for_function("image => image.naturalWidth === 128", arg=shown.element_handle(), timeout=WAIT)

    page.locator('.palate-pairs [data-outcome="right"]').click()
    page.wait_for_selector('.palate-pairs[data-open="1"][data-answers="1"]', timeout=WAIT)
    told = host.request("/palate/pairs", {"person": person})
    assert told["answers"] == 1 and len(told["pairs"]) == 1

    page.locator('.palate-pairs [data-outcome="undo"]').click()
    page.wait_for_selector('.palate-pairs[data-open="2"][data-answers="0"]', timeout=WAIT)
    page.locator(".palate-pairs img").first.click()  # a click on the picture itself
    page.wait_for_selector('.palate-pairs[data-open="1"][data-answers="1"]', timeout=WAIT)
    assert page.wrong == []
    page.close()


def test_after_a_reload_the_open_pairs_are_there_again(host: Host, browser: Any) -> None:
    page = open_graph(host, browser, vue=False)
    load_example(page, seed=21, person="reload")
    page.evaluate("() => window.app.queuePrompt(0)")
    page.wait_for_selector('.palate-pairs[data-open="2"]', timeout=WAIT)
    page.close()
    page = open_graph(host, browser, vue=False)
    load_example(page, seed=21, person="reload")
    page.wait_for_selector('.palate-pairs[data-open="2"]', timeout=WAIT)
    assert page.wrong == []
    page.close()
