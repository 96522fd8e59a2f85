"""A panel for looking only, in a real Chromium: nothing is offered that would be refused, and that is said."""

import driving
import panel_fakes as fakes
import pytest
from palate.ui.panel.gate import Rules

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
CHANGES = "#palate-add, [data-rename], [data-forget], [data-delete], [data-act='paint-more'], [data-show]"


@pytest.mark.parametrize("width", [360, 1280])
def test_only_looking_is_offered_and_nothing_is_refused(browser, tmp_path, width):
    with fakes.panel_here(tmp_path, [("me", 24), ("Ada", 24)], Rules(read_only=True)) as panel:
        context = browser.new_context(viewport={"width": width, "height": 800})
        context.set_default_timeout(driving.WAIT)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(panel.url)
        expect(page.locator(".pl-only")).to_have_text("for looking only")
        assert page.get_by_role("tab").all_inner_texts()[0].startswith("Taste")
        expect(page.locator(".pl-figure strong")).to_be_visible()
        expect(page.locator("#palate-answers [data-change='left']").first).to_be_disabled()
        assert page.locator(CHANGES).locator("visible=true").count() == 0
        assert "Someone else…" not in page.locator("#palate-person").inner_text()
        page.locator("#palate-person").select_option("Ada")
        expect(page.locator("#palate-learned h1")).to_have_text("What Ada likes")
        page.keyboard.press("2")
        expect(page.locator("[aria-current=true]")).to_contain_text("shown now")
        assert page.locator(CHANGES).locator("visible=true").count() == 0
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        context.close()
        assert wrong == []
