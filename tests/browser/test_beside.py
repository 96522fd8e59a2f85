"""What stands beside the pictures says what it is about."""

import json

import pytest

pytestmark = pytest.mark.browser

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
TELL = """() => document.dispatchEvent(new CustomEvent("palate:told", { detail: {
  answers: 30, wanted: { surprise: 0 },
  live: { curve: [], ceiling: null, advice: "", enough: false, own: null, others: null, left: 0.8, leans: "left" },
} }))"""


def test_the_sides_chosen_so_far_are_no_guess_about_this_pair(page):
    page.route("**/palate/api/compare", lambda route: route.fulfill(status=200, body="no JSON"))  # nothing else is told
    page.evaluate("() => window.palateCompare.settled()")
    page.evaluate(TELL)
    leaning = page.locator(".pl-leaning")
    expect(leaning).to_contain_text("you chose, so far")
    expect(leaning).to_contain_text("left 80")
    page.evaluate("() => { document.getElementById('palate-stage').dataset.way = 'order' }")  # four have no left
    expect(leaning).to_be_hidden()
    expect(page.locator(".pl-leaning + p")).to_be_hidden()


def test_two_files_of_one_person_are_told_apart(page):
    files = [
        {
            "source": f"file:{name}.safetensors",
            "name": "Olga",
            "kind": "taste",
            "fits": True,
            "file": f"{name}.safetensors",
        }
        for name in ("may", "june")
    ]
    told = json.dumps({"people": [], "files": [*files, {**files[0], "source": "file:own.safetensors", "name": "Max"}]})
    page.route("**/palate/api/tastes", lambda route: route.fulfill(status=200, body=told))
    page.get_by_role("tab", name="Generate").click()
    options = page.locator('[data-part="add"] option')
    expect(options).to_have_text(["Add a taste…", "Olga (file may)", "Olga (file june)", "Max (file)"])


def test_the_curve_says_how_many_answers_its_number_is_of(page):
    points = [[20, 0.5, 0.3, 0.7], [30, 0.7, 0.5, 0.85]]
    said = page.evaluate("points => window.palateKit.plotCurve(points).textContent", points)
    assert said.endswith("70 %30 answers") and "Accuracy after 30 answers: 70 %" in said
