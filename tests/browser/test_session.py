"""A whole session by mouse, and one by keyboard only; every page can be read and used without seeing its colours."""

import driving
import panel_fakes as fakes
import pytest

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
choose_person, next_pair, open_tab = driving.choose_person, driving.next_pair, driving.open_tab
expect = sync_api.expect
TABS = ("compare", "taste", "generate", "train", "share", "people")
# What can be seen and used, and has no name that a screen reader could say.
NAMELESS = """() => {
  const shown = (one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest("[aria-hidden=true]");
  const named = (one) => (one.getAttribute("aria-label") || one.getAttribute("title") || one.textContent.trim()
    || [...(one.labels ?? [])].some((label) => label.textContent.trim())
    || document.getElementById(one.getAttribute("aria-labelledby") ?? "")?.textContent
    || [...one.querySelectorAll("img[alt]")].some((image) => image.alt));
  const asked = [...document.querySelectorAll("button, input, select, textarea, a[href], [role=tab], dialog")];
  const told = (all) => all.map((one) => one.outerHTML.slice(0, 120));
  const bad = told(asked.filter((one) => shown(one) && !named(one)));
  const images = told([...document.images].filter((one) => !one.hasAttribute("alt")));
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  return [...bad, ...images, ...ids.filter((id, index) => /^palate-/.test(id) && ids.indexOf(id) !== index)];
}"""
# Contrast of two colours of the style sheet as WCAG 2.2 defines it.
CONTRAST = """([front, back]) => {
  const light = (name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--pl-${name})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    probe.remove();
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [one, other] = [light(front), light(back)].sort((a, b) => b - a);
  return (one + 0.05) / (other + 0.05);
}"""
PAIRS = [(front, back) for front in ("ink", "soft", "accent") for back in ("paper", "card")]


def test_a_whole_session_by_mouse(page, panel):
    ticket = choose_person(page, "Mouse")
    for side in ("left", "right", "left", "left"):
        page.click(f'[data-choose="{side}"]')
        ticket = next_pair(page, ticket)
    driving.settle(page)
    open_tab(page, "Taste")
    expect(page.locator(".pl-taste h1")).to_have_text("What Mouse likes")
    expect(page.locator("#palate-answers > li")).to_have_count(4)
    open_tab(page, "Generate")
    page.fill('#palate-generate [data-part="prompt"]', "a red star")
    page.click('#palate-generate [data-act="paint"]')
    expect(page.locator('#palate-generate [data-part="grid"] img').first).to_be_visible()
    open_tab(page, "Share")
    expect(page.locator("#palate-page-share")).to_contain_text("Mouse")
    open_tab(page, "People")
    expect(page.locator("[aria-current=true] strong")).to_have_text("Mouse")
    assert driving.outcomes(panel.store, "Mouse") == ["left", "right", "left", "left"]


def test_a_whole_session_by_keyboard_only(page, panel):
    page.keyboard.press("6")
    expect(page.locator("#palate-page-people")).to_be_visible()
    tab_to(page, "#palate-new-person")
    page.keyboard.type("Keys")
    page.keyboard.press("Enter")
    expect(page.locator("#palate-page-compare")).to_be_visible()
    ticket = next_pair(page)
    for key in ("ArrowLeft", "d", "t", "x", "s", "u", "ArrowRight"):
        page.keyboard.press(key)
        ticket = next_pair(page, ticket)
    driving.settle(page)
    assert driving.outcomes(panel.store, "Keys") == ["left", "right", "tie", "both_bad", "right"]
    tab_to(page, '[data-choose="right"]')
    page.keyboard.press("Enter")
    next_pair(page, ticket)
    page.keyboard.press("2")
    expect(page.locator(".pl-taste h1")).to_have_text("What Keys likes")
    row = page.locator("#palate-answers > li").first
    expect(row).to_be_visible()
    tab_to(page, '#palate-answers > li:first-child [data-change="tie"]')
    page.keyboard.press("Enter")
    expect(row.locator('[data-change="tie"]')).to_have_attribute("aria-pressed", "true")
    expect(row.locator('[data-change="tie"]')).to_be_focused()
    page.keyboard.press("3")
    tab_to(page, '#palate-generate [data-act="paint"]')
    page.keyboard.press("Enter")
    expect(page.locator('#palate-generate [data-part="grid"] img').first).to_be_visible()
    page.keyboard.press("Escape")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("5")
    expect(page.locator("#palate-page-share")).to_contain_text("Keys")
    page.keyboard.press("6")
    expect(page.locator("[aria-current=true] strong")).to_have_text("Keys")
    assert driving.outcomes(panel.store, "Keys")[-1] == "tie"


def tab_to(page, selector, most=80):
    """Press Tab until this element has the focus, as somebody without a mouse does; the focus must be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.matches(selector)", selector):
            break
    else:
        pytest.fail(f"{selector} can't be reached with the Tab key")
    width = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert width != "none"


def test_an_answer_beside_a_slow_undo_is_not_asked_again(page, panel):
    first = choose_person(page, "Slow")
    page.keyboard.press("ArrowLeft")
    second = next_pair(page, first)
    driving.settle(page)
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    page.evaluate(driving.SLOW, ["/undo"])
    page.keyboard.press("u")
    page.wait_for_function("() => window.reached")
    page.keyboard.press("ArrowRight")  # of the pair that is still there
    next_pair(page, second)
    page.wait_for_timeout(300)  # in which a request that overtakes would come back
    page.evaluate("() => window.release()")
    driving.settle(page)
    page.wait_for_function("first => document.getElementById('palate-stage').dataset.ticket === first", arg=first)
    page.keyboard.press("t")
    assert next_pair(page, first) != second
    driving.settle(page)
    assert outcomes_of(panel, "Slow") == {first: "tie", second: "right"}


def test_an_answer_and_an_undo_while_somebody_else_is_chosen_do_not_stop_the_page(page, panel):
    first = choose_person(page, "Before")
    page.keyboard.press("ArrowLeft")
    next_pair(page, first)
    driving.settle(page)
    page.evaluate(driving.SLOW, ["/hello"])
    page.evaluate("() => void window.palate.use('After')")
    page.wait_for_function("() => window.reached")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")
    page.evaluate("() => window.release()")
    expect(page.locator("#palate-person")).to_have_value("After")
    driving.settle(page)
    assert driving.outcomes(panel.store, "Before") == ["left", "right"]


def outcomes_of(panel, person):
    """Return a person's answers by the ticket of what they answered."""
    stored = panel.store.comparisons(person)
    return {panel.store.find_offer(comparison=one.id).id: one.outcome for one in stored}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_colours_can_be_told_apart(visit, panel, scheme):
    fakes.answer_some(panel.store, person="Ally", number=12)
    page = visit(color_scheme=scheme)
    next_pair(page)
    choose_person(page, "Ally")
    for tab in TABS:
        page.keyboard.press(str(TABS.index(tab) + 1))
        expect(page.locator(f"#palate-page-{tab}")).to_be_visible()
        if tab == "taste":
            expect(page.locator("#palate-answers > li").first).to_be_visible()
        assert page.evaluate(NAMELESS) == [], tab
    for front, back in [*PAIRS, ("on-accent", "accent")]:
        assert page.evaluate(CONTRAST, [front, back]) >= 4.5, (front, back)
    assert page.evaluate("() => document.title") == "Palate"


def test_a_phone_holds_every_tab_in_its_width(visit, panel):
    fakes.answer_some(panel.store, person="Tiny", number=12)
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    next_pair(page)
    choose_person(page, "Tiny")
    for tab in TABS:
        page.tap(f"#palate-tab-{tab}")
        expect(page.locator(f"#palate-page-{tab}")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390, tab


def test_a_name_is_never_markup(page):
    name = "<img src=x onerror=alert(1)>\"'&"
    choose_person(page, name)
    for key in "123456":
        page.keyboard.press(key)
    expect(page.locator("[aria-current=true] strong")).to_have_text(name)
    assert page.locator("img[src=x]").count() == 0


def test_a_click_between_two_changes_of_who_chooses_ends_neither(page, panel):
    choose_person(page, "Nora")
    page.wait_for_function("() => window.palateCompare.ready() > 1")
    page.evaluate(driving.SLOW, ["/hello", "Olaf"])
    page.evaluate("() => void window.palate.use('Olaf')")
    page.wait_for_function("() => window.reached")
    page.keyboard.press("ArrowRight")  # of the pair that is still on the screen
    page.evaluate("() => void window.palate.use('Pia')")  # waits until that answer is stored
    page.evaluate("() => window.release()")
    expect(page.locator("#palate-person")).to_have_value("Pia")
    next_pair(page)
    driving.settle(page)
    assert [driving.outcomes(panel.store, name) for name in ("Nora", "Olaf", "Pia")] == [["right"], [], []]


@pytest.mark.parametrize("width", [700, 1000, 1100])
def test_the_number_of_answers_never_lies_on_a_tab(visit, width):
    page = visit(viewport={"width": width, "height": 700})
    driving.next_pair(page)
    page.evaluate("() => window.palate.count(1234)")
    count = page.locator("#palate-count").bounding_box()
    last = page.locator("#palate-tab-people").bounding_box()
    assert count is None or count["x"] >= last["x"] + last["width"]
