"""One voice: whatever was expected and whatever was measured, no two sentences about a taste contradict each other."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from palate.adapters.taste import LearningReport
from palate.adapters.taste.enough import Advice
from palate.adapters.taste.report import wilson_interval
from palate.adapters.taste.verdict import VERDICTS, missing_tests, verdict_of
from palate.ui.panel.people_routes import known
from palate.ui.panel.progress import progress_of
from palate.ui.panel.taste_parts import accuracy_of

FEW = Advice(False, "Too few answers to say how many are enough: give 4 more first.")
ADVICE = [FEW] + [
    Advice(gain < 0.02, "", 0 if gain < 0.02 else 60, gain, now, gain)
    for gain, now in itertools.product((0.0, 0.019, 0.021, 0.15), (0.5, 0.56, 0.58, 0.7, 0.95))
]
MEASURED = [(hit * count, count) for count in (0, 3, 20, 300) for hit in (0.0, 0.5, 0.6, 1.0)]
GRID = [(*case, each) for case in itertools.product(ADVICE, MEASURED, (0.55, 0.72, 1.0)) for each in (1, 3)]
NEVER_TOGETHER = [
    ("Good enough", r"not yet|by chance|Too early|no clear taste|No clear taste|taste is sure|worth it|would show"),
    ("No clear taste", r"will tell|worth it|would show|taste is sure|taste foresees|a coin foresees"),
    ("would show whether", r"taste foresees|a coin foresees|worth it"),
    ("taste foresees", r"not yet|by chance|Too early"),
    ("Too few answers", r"hardly change|worth it|not change"),
]


def reported(advice, measured, possible, answers_a_test):
    correct, count = measured
    answers = max(10, answers_a_test * count)
    found = verdict_of(advice, answers, correct, count, possible)
    report = LearningReport(
        "me", answers, count, correct, correct / count if count else None, wilson_interval(correct, count), None, None,
        ceiling=None if possible == 1 else possible - 0.02, ceiling_interval=(0.5, possible), repeats=9,
        verdict=found.name, enough=found.name == "enough", advice=found.text, worth=found.more,
    )  # fmt: skip
    return found, report


def test_no_two_sentences_contradict_each_other_anywhere():
    seen = set()
    for case in GRID:
        found, report = reported(*case)
        seen.add(found.name)
        said = " | ".join(
            re.sub(r"<[^>]*>", " ", text)
            for text in (
                report.advice,
                accuracy_of(report),
                accuracy_of(report, "this"),
                progress_of(report.answers, report).text,
                known(report),
            )
        )
        for one, other in NEVER_TOGETHER:
            assert not (one in said and re.search(other, said)), (case, said)
        assert said.count("more answers are worth it") <= 2  # the report's and, the same sentence, the page's
        assert (found.more is None) == (found.name == "few") and (found.more == 0) == (
            found.name in ("nothing", "enough")
        )
    assert seen == set(VERDICTS)


def test_good_enough_is_surely_better_than_a_coin_and_no_more_is_promised_than_there_is():
    for advice, measured, possible, each in GRID:
        found, report = reported(advice, measured, possible, each)
        assert not report.enough or report.better_than_coin
        if found.name == "more":
            points = int(re.search(r"about (\d+) points", found.text)[1])
            assert points <= 100 * (possible - advice.accuracy) + 0.5


@pytest.mark.parametrize(
    ("points", "said"), [(0.004, "less than a point"), (0.01, "about a point"), (0.031, "about 3 p")]
)
def test_the_first_of_many_steps_may_add_little_and_is_never_worth_it_for_nothing(points, said):
    """Many answers later it would be more than two points, but the next ten are a part of that."""
    found = verdict_of(Advice(False, "", 10, 0.021, 0.7, points), 120, 60, 90)
    assert found.text.startswith(f"About 10 more answers are worth it: they would add {said}")


@pytest.mark.parametrize("language", ["en", "ja", "zh"])
def test_the_sidebar_has_a_sentence_for_each(language):
    """As `learned.js` picks it."""
    script = (Path(__file__).parents[2] / "ui" / "web" / "palate" / "learned.js").read_text(encoding="utf-8")
    texts = Path(__file__).parents[2] / "locales" / language / "main.json"
    known_texts = json.loads(texts.read_text(encoding="utf-8"))["palate"]["taste"]
    chosen = dict(re.findall(r'verdict === "(\w+)"\) return say\("taste.(\w+)"', script))
    assert set(chosen) == set(VERDICTS) - {"more", "few"}  # those go by the number
    assert all(known_texts[text] for text in (*chosen.values(), "more", "few"))


def test_eight_more_tests_are_enough_after_six_of_eight():
    """6 of 8 are drawn to (6 + 6) / (8 + 8) = 0.75; Wilson's lower end is 0.497 for 11.25 of 15, 0.505 for 12 of 16."""
    assert wilson_interval(11.25, 15)[0] < 0.5 < wilson_interval(12, 16)[0]
    assert missing_tests(6, 8) == 8
