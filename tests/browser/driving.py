"""What the browser tests have in common: a panel in a process of its own, and hands on its page."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

FAKES = Path(__file__).parents[1] / "panel_fakes.py"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START = 240.0  # s for the panel to start on a busy machine; only ever waited for when something is broken
WAIT = 120_000  # ms, likewise
NEW_PAIR = """before => {
  const stage = document.querySelector("#palate-stage[data-ticket]");
  return stage && stage.dataset.ticket !== before && [...stage.querySelectorAll("img")].length === 2;
}"""
# Holds back what the panel says to the first request of a kind that speaks of `only`, until `window.release()`.
SLOW = """([path, only = ""]) => {
  const real = window.fetch;
  const gate = new Promise((go) => (window.release = go));
  window.reached = false;
  window.fetch = async (...given) => {
    const meant = String(given[0]).split("?")[0].endsWith(path) && String(given[1]?.body).includes(only);
    const held = meant && !window.reached;
    const answer = await real(...given);
    if (!held) return answer;
    window.reached = true;
    await gate;
    return answer;
  };
}"""
TOLD = """() => ({
  stage: document.querySelector("#palate-stage")?.dataset,
  status: document.querySelector("#palate-status")?.textContent,
  prompt: document.querySelector("#palate-prompt")?.textContent, focus: document.activeElement?.outerHTML.slice(0, 120),
  pictures: document.querySelectorAll("#palate-stage img").length,
  outbox: localStorage.getItem(`palate-outbox:${window.palate?.tab}`),
})"""
DROP = """([name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


class RunningPanel:
    """A panel on the fakes, in a folder of its own; it can be stopped, killed and started again on the same port."""

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        self.folder = folder
        self._answers = store or folder / "store"
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def errors(self) -> str:
        return (self.folder / "errors.txt").read_text()

    def start(self) -> None:
        """Start it and wait until it is there."""
        homes = {"PALATE_HOME": str(self.folder / "home"), "GRADIO_TEMP_DIR": str(self.folder / "gradio")}
        self.process = subprocess.Popen(
            [sys.executable, str(FAKES), str(self._answers), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "errors.txt").open("a"),
            text=True,
            env={**os.environ, **homes},
        )
        late = threading.Timer(START, self.process.kill)
        late.start()
        url = self.process.stdout.readline().strip()
        late.cancel()
        assert url.startswith("http://127.0.0.1:"), f"the panel did not start: {self.errors}"
        self.port = int(url.strip("/").rsplit(":", 1)[-1])

    def stop(self) -> int:
        """Close it as Ctrl-C does and return its exit status."""
        self.process.stdin.close()
        try:
            return self.process.wait(120)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(120)
        self.process.stdout.close()


def ticket(page):
    """Return the ticket of the pair on the screen, None when there is none."""
    return page.get_attribute("#palate-stage", "data-ticket")


def next_pair(page, before=""):
    """Wait for a pair other than `before` and return its ticket; when none comes, say what the page shows instead."""
    from playwright.sync_api import TimeoutError as TooLate

    try:
        page.wait_for_function(NEW_PAIR, arg=before or "")
    except TooLate as error:
        raise AssertionError(f"no pair after {before!r}: {page.evaluate(TOLD)}") from error
    return ticket(page)


def shown_pictures(page):
    """Return the ids of the two pictures on the screen."""
    return [image.get_attribute("src").rsplit("/", 1)[-1] for image in page.locator("#palate-stage img").all()]


def settle(page):
    """Wait until every answer is stored."""
    page.evaluate("() => window.palateCompare.settled()")


def choose_person(page, name):
    """Choose as this person from now on, and return the ticket of their first pair."""
    before = ticket(page)
    assert page.evaluate("name => window.palate.use(name)", name)
    return next_pair(page, before)


def open_tab(page, name):
    """Bring a tab to the front by its button."""
    page.get_by_role("tab", name=name).click()


def outcomes(store, person):
    """Return a person's answers, oldest first."""
    return [comparison.outcome for comparison in store.comparisons(person)]


def drop_file(page, name, data):
    """Drop a file with these bytes onto the page."""
    page.evaluate(DROP, [name, list(data)])
