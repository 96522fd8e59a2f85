"""Make the README's pictures of the panel with the panel itself: `python tests/readme_pictures.py`.

A simulated person who likes warm colours and night skies answers some pairs, as somebody would; then a browser opens
the panel and takes the pictures. Needs Chromium.
"""

import argparse
import random
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
from palate.adapters.playground.people import FEATURES, Person
from palate.ui.panel.server import Panel
from palate.ui.panel.studio import Studio
from palate.ui.panel.tools import real_tools
from PIL import Image
from playwright.sync_api import Page, sync_playwright

LIKES = {
    "colour=red": 2.5,
    "colour=orange": 2.5,
    "colour=pink": 1.5,
    "colour=blue": -1.5,
    "colour=green": -1.5,
    "background=night": 2.5,
    "background=slate": -1.0,
    "sticker": 1.0,
}
WAIT = 600_000  # ms
LARGEST = 300_000  # bytes
LOOKS = {
    "": {"viewport": {"width": 1160, "height": 760}},
    "-dark": {"viewport": {"width": 1160, "height": 760}, "color_scheme": "dark"},
    "-phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


def answer(studio: Studio, number: int) -> None:
    """Answer pairs of example prompts as the simulated person would."""
    weights = np.array([LIKES.get(name, 0.0) for name in FEATURES])
    person, chance = Person(studio.person, weights, noise=0.5), random.Random(0)
    session = studio.session("simulated")
    for _ in range(number):
        while (pair := session.show(600)) is None:
            pass
        left, right = studio.store.image(pair.left), studio.store.image(pair.right)
        session.answer(pair.ticket, person.answer(left, right, chance))
    studio.leave("simulated")


def take(page: Page, file: Path, whole: bool = True) -> None:
    """Save the page, or what the window shows of it, in 256 colours only where it is too large for a repository."""
    page.wait_for_function("() => [...document.images].every(one => one.complete || one.loading === 'lazy')")
    page.wait_for_timeout(600)  # for the animations
    page.screenshot(path=file, full_page=whole)
    with Image.open(file) as image:
        pixels = image.convert("RGB")
    pixels.save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        pixels.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def visit(page: Page, folder: Path, look: str, prompt: str) -> None:
    """Take pictures of the tabs."""
    page.set_default_timeout(WAIT)
    page.wait_for_selector("#palate-stage[data-ticket]")
    page.wait_for_selector("#palate-plot path[stroke-linejoin]")
    take(page, folder / f"panel-compare{look}.png")
    page.keyboard.press("2")
    page.wait_for_selector(".pl-figure, .pl-sure")
    page.wait_for_selector("#palate-learned[aria-busy]", state="detached")
    take(page, folder / f"panel-taste{look}.png", whole=False)
    page.keyboard.press("3")
    page.fill('#palate-generate [data-part="prompt"]', prompt)
    page.click('#palate-generate [data-act="for-me"]')
    page.wait_for_selector('#palate-generate [data-part="grid"] img')
    page.wait_for_selector('#palate-generate [data-part="working"]', state="hidden")
    take(page, folder / f"panel-generate{look}.png", whole=False)
    page.keyboard.press("Escape")
    for name in ("train", "share", "people"):
        page.evaluate("name => window.palate.show(name)", name)
        page.wait_for_timeout(1500)  # for its lists
        take(page, folder / f"panel-{name}{look}.png", whole=False)


def main() -> None:
    """Answer, look, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="playground", help="a diffusers pipeline")
    parser.add_argument("--answers", type=int, default=25)
    parser.add_argument("--prompt", default="a star", help="what to generate")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "assets", help="folder of the pictures")
    parser.add_argument("--all", action="store_true", help="dark and on a phone, too")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as store, sync_playwright() as playwright:
        studio = Studio(store, real_tools(options.model), "Mara")
        answer(studio, options.answers)
        panel = Panel(studio, port=0)
        running = threading.Thread(target=panel.run, daemon=True)
        running.start()
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for look in LOOKS if options.all else [""]:
            page = browser.new_context(**LOOKS[look]).new_page()
            page.goto(panel.url)
            visit(page, options.to, look, options.prompt)
            page.context.close()
        browser.close()
        panel.stop()
        running.join(30)


if __name__ == "__main__":
    main()
