"""The studies mismatch and rpo-style, tiny: styles are measured and undone, and every arm has its row."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import pytest
from palate.adapters.playground.measure import measure
from palate.adapters.playground.world import Card, draw, random_card
from palate.adapters.steering import Generator
from palate.adapters.studies import _bench, _subject, mismatch, rpo_style
from palate.adapters.studies._painter import Seen
from palate.adapters.studies._styled import Judged, StyleBench, kid, own_rates
from palate.adapters.studies._styles import STYLES, SUBJECT
from palate.adapters.studies._subject import DRAWN, Shown, SubjectBench, subject_rows

CARD = Card("heart", "blue", "sand", "striped", "large", "left", period=24)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator("playground")


@pytest.mark.parametrize("name", STYLES)
def test_a_style_has_its_own_measure_and_what_it_shows_can_be_read(name: str) -> None:
    share, shown = STYLES[name].read(STYLES[name].draw(CARD))
    before = STYLES[name].share(draw(CARD))
    assert share[0] > before + 0.4 and before < 0.1
    assert shown == {part: getattr(CARD, part) for part in STYLES[name].reads}


def test_undoing_a_style_leaves_a_plain_postcard_as_it_is() -> None:
    plain = draw(random_card(random.Random(0)))
    assert measure(STYLES["negative"].undone(plain)).named() == measure(plain).named()


def test_a_filled_subject_on_paper_is_no_line_drawing() -> None:
    style = STYLES["line drawing"]
    drawn = style.draw(CARD)
    filled = np.asarray(drawn).copy()
    filled[np.asarray(style.undone(drawn)).sum(axis=2) < 600] = (32, 78, 216)
    from PIL import Image

    assert style.share(Image.fromarray(filled)) < 0.1 < style.share(drawn)


def test_yellow_below_blue_is_another_subject() -> None:
    picture = STYLES[SUBJECT].draw(CARD)
    assert STYLES[SUBJECT].share(picture) > 0.6 and STYLES[SUBJECT].share(picture.rotate(180)) == 0.0


def test_kid_by_hand() -> None:
    """Kernel (1 + cosine)^3: 8 for the same, 1 across: 8 + 8 - 2; of one kind about nothing."""
    first, second = np.eye(2)[[0, 0]], np.eye(2)[[1, 1]]
    assert kid(first, second) == 14.0 and kid(first, first) == 0.0
    assert np.isnan(kid(first[:1], second))


def test_maposs_lead_is_that_of_the_same_training() -> None:
    found = {"dpo": [Judged(0.1, 1, 0), Judged(0.5, 1, 0)], "mapo": [Judged(0.3, 1, 0), Judged(0.7, 1, 0)]}
    assert mismatch._leads(found, 0) == ["+20 (+20 to +20)"]
    assert mismatch._leads({"dpo": found["dpo"]}, 0) == []


def test_a_rate_is_chosen_by_the_other_trainings_among_those_that_keep_the_prompts() -> None:
    """Of two trainings the first takes what was best in the second, and the other way round."""
    found = {
        1e-3: [Judged(0.1, 0.80, 0), Judged(0.2, 0.80, 0)],
        3e-3: [Judged(0.3, 0.80, 0), Judged(0.4, 0.60, 0)],
        1e-2: [Judged(0.9, 0.50, 0), Judged(0.9, 0.50, 0)],
    }
    assert own_rates(found, 0.8) == [1e-3, 3e-3]
    assert own_rates({rate: several[:1] for rate, several in found.items()}, 0.8) == [3e-3]
    assert own_rates(found, 2.0) == [1e-3, 1e-3]


def test_a_subject_counts_where_silhouette_and_colours_are_right(generator: Generator) -> None:
    """Four pictures: the subject, another silhouette in its colours; of the class, the subject, and a plain one."""
    bench = object.__new__(SubjectBench)
    bench.subject = "star"
    named = ({"subject": "star"}, {"subject": "moon"}, {"subject": "star"}, {"subject": "star"})

    class Wall:
        prompts = ("sks star", "sks star", "star", "star")

        def look(self, tuned: object, style: str) -> Seen:
            return Seen(np.array([[0.9], [0.9], [0.9], [0.0]]), named, np.zeros((4, 1)))

    bench._workshop = Wall()  # type: ignore[assignment]
    assert bench.taught("the base") == Shown(0.5, 0.5, 0.5, 1.0)
    assert subject_rows({"x": [Shown(0.5, 0.5, 0.5, 1.0)]}, 0)[0][:2] == ["x", "50 (50 to 50)"]


def test_drawn_subjects_are_read_behind_the_autoencoder(generator: Generator) -> None:
    """What no drawn one shows there, no trained model can: the measure's own ceiling."""
    options = argparse.Namespace(seed=0, prompts=2, device="cpu", sampling=1, cache=None, sampled=1)
    bench = SubjectBench(_bench.Workshop(generator, ["a house"], 0, 1), 3, options)
    assert bench.taught(DRAWN) == Shown(1.0, 1.0, 0.0, 1.0)


def test_what_each_way_to_learn_a_subject_is_shown(generator: Generator) -> None:
    """The class kept: as many pictures of the model's own, of prompts without the subject's name."""
    options = argparse.Namespace(seed=0, prompts=1, device="cpu", sampling=1, cache=None, sampled=1)
    workshop = _bench.Workshop(generator, ["a star"], 0, 1)
    bench = SubjectBench(workshop, 0, options)
    kept, mapo = bench._pairs("DreamBooth, class kept"), bench._pairs("MaPO, liked alone")
    assert len(kept) == 2 and kept.prompts == (0, _subject._PICTURES)
    assert len(mapo) == 1 and not mapo.chosen[0].equal(mapo.rejected[0])


def test_mismatch_and_rpo_style_share_their_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, generator: Generator
) -> None:
    monkeypatch.setattr(_bench, "Generator", lambda *_: generator)
    monkeypatch.setattr(_bench, "VIEWS", 2)
    common = ["--quick", "--styles", "dusk", "--sampling", "1", "--cache", str(tmp_path)]
    assert mismatch.run([*common, "--parts", "styles", "--losses", "mapo|dpo"]) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("| dusk")]
    assert [row[1].strip() for row in rows[:4]] == ["the base", "mapo", "dpo", "drawn ones"] and len(rows) == 5
    trained: list[str] = []
    ways = StyleBench.taught
    monkeypatch.setattr(StyleBench, "taught", lambda self, *given: trained.append(given[0]) or ways(self, *given))
    monkeypatch.setattr("palate.adapters.studies._tuning.train_lora", None)
    assert rpo_style.run([*common, "--losses", "dpo"]) == 0
    assert trained == ["dpo"] and "palate study rpo-style --quick" in capsys.readouterr().out


def test_an_unknown_style_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rpo_style.run(["--styles", "cubism"])
    assert "expected some of winter|dusk" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mismatch.run(["--losses", "sft then dop"])
    assert "or one then another" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mismatch.run(["--captions", "2"])
    assert "--trainings 3: each has captions of its own" in capsys.readouterr().err
