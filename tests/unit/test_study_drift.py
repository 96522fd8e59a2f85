"""The study drift, tiny: a half-life helps somebody whose taste changed, and costs somebody whose taste stays."""

from __future__ import annotations

import numpy as np
import pytest
from palate.adapters.studies import drift
from palate.adapters.studies._world import World


def linear_world(people=6, pictures=150, width=6):
    """People whose utility is a weight per dimension; the second half are those that the first turn into."""
    rng = np.random.default_rng(0)
    vectors, tests = rng.standard_normal((pictures, width)), rng.standard_normal((400, width))
    weights = 2.0 * rng.standard_normal((2 * people, width))
    return World(vectors, weights @ vectors.T, tests, weights @ tests.T)


def gain(course, half_life):
    """Mean over people of what the half-life adds after 120 answers."""
    found = [
        drift.accuracies(linear_world(), person, drift.COURSES[course], 120, [None, half_life], None, 0)
        for person in range(6)
    ]
    return float(np.mean([after - before for before, after in found]))


def test_a_half_life_helps_after_a_change_and_costs_where_nothing_changes():
    assert gain("another one from half way on", 20.0) > 0.1
    assert -0.1 < gain("stays", 20.0) < -0.005


def test_somebody_who_turned_by_90_degrees_is_the_other_person_at_the_end():
    world = linear_world()
    end = drift.COURSES["turns by 90°"](np.ones(1))
    np.testing.assert_allclose(drift.turned(world.gap, 1, end), world.gap[7])
    np.testing.assert_allclose(drift.turned(world.gap, 1, 0.0 * end), world.gap[1])


def test_answers_come_one_a_day_and_are_the_same_for_the_same_seed():
    one, again, other = (drift.drifting(linear_world(), 0, drift.COURSES["stays"], 9, seed) for seed in (1, 1, 2))
    assert np.diff([c.created for c in one.comparisons]) == pytest.approx(86_400.0)
    assert one.comparisons == again.comparisons != other.comparisons


def test_the_table_has_a_row_for_no_half_life_and_for_each(monkeypatch, capsys):
    monkeypatch.setattr(drift, "load_encoder", lambda spec: None)
    monkeypatch.setattr(drift, "draw_world", lambda encoder, people, *rest: linear_world(people // 2))
    assert drift.run(["--people", "2", "--answers", "12", "--half-lives", "4,8"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")]
    assert rows == ["half-life in answers", "---", "none", "4", "8"]
    assert "**12 answers, one a day, of 2 people.**" in printed
    with pytest.raises(SystemExit):
        drift.run(["--half-lives", "0"])
    assert "expected days above 0" in capsys.readouterr().err
