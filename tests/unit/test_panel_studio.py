"""The studio: tastes by person, what was learned, generating, taste files. No Gradio, no real model."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from palate.adapters.errors import (
    ComparisonError,
    EncoderMismatchError,
    FileFormatError,
    NotEnoughAnswersError,
)
from palate.ui.panel import views
from palate.ui.panel.pair import Pair
from palate.ui.panel.prompts import EXAMPLES, FILE, example_prompts
from palate.ui.panel.shelf import Shelf
from palate.ui.panel.studio import Studio

fakes = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "panel_fakes.py")))
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def never():
    return False


def ignore(share):
    pass


@pytest.fixture
def studio(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", fakes.fake_tools())
    yield studio
    studio.close()


def test_a_taste_is_fitted_again_only_after_a_new_answer(studio):
    fakes.answer_some(studio.store)
    first = studio.taste("me")
    assert studio.taste("me") is first
    fakes.answer_some(studio.store, number=1, seed=9)
    assert studio.taste("me") is not first


def test_the_learned_page_is_worked_out_again_only_after_a_new_answer(studio):
    fakes.answer_some(studio.store)
    first = studio.learned("me")
    assert studio.learned("me") is first
    studio.store.undo("me")
    assert studio.learned("me").answers == first.answers - 1


def test_nothing_answered_is_said_in_words(studio):
    with pytest.raises(NotEnoughAnswersError, match="Compare"):
        studio.learned("nobody")


def test_what_was_learned_puts_red_first_for_somebody_who_likes_red(studio):
    fakes.answer_some(studio.store, number=40)
    learned = studio.learned("me")

    def red(ids):
        return np.mean([np.asarray(studio.store.image(one))[..., 0].mean() for one in ids])

    assert red(learned.best) > red(learned.worst) + 50
    assert len(learned.best) == len(learned.worst) == 8
    assert learned.report.accuracy > 0.6


def test_no_picture_is_both_best_and_worst(studio):
    fakes.answer_some(studio.store, number=1)
    learned = studio.learned("me")
    assert (len(learned.best), len(learned.worst)) == (1, 1)
    assert learned.best != learned.worst


def test_only_both_bad_is_not_enough_and_no_crash(studio):
    fakes.answer_some(studio.store, number=1)
    comparison = studio.store.undo("me")
    studio.store.add(type(comparison)("me", comparison.left, comparison.right, "both_bad"))
    with pytest.raises(NotEnoughAnswersError):
        studio.learned("me")


def test_a_new_request_stops_the_one_before(studio):
    session = studio.session("tab")
    first = session.start_generating()
    second = session.start_generating()
    assert first.is_set()
    assert not second.is_set()


def test_a_closed_tab_is_forgotten(studio):
    session = studio.session("tab")
    studio.leave("tab")
    studio.leave("never there")
    assert studio.session("tab") is not session


def test_a_taste_goes_through_a_file(studio):
    fakes.answer_some(studio.store)
    path = studio.save_taste("me")
    assert path.parent == studio.tastes_folder
    loaded = studio.load_taste(path)
    assert (loaded.person, loaded.answers) == ("me", 12)


def test_a_persons_name_leads_nowhere_else(studio):
    name = "../../etc/passwd"
    fakes.answer_some(studio.store, person=name)
    assert studio.save_taste(name).parent == studio.tastes_folder


@pytest.mark.parametrize("name", [" ", "a\nb", "x" * 4001])
def test_a_name_that_nobody_can_have_is_refused_before_the_first_answer(studio, tmp_path, name):
    with pytest.raises(ComparisonError, match="person is"):
        studio.session("tab").use_person(name)
    with pytest.raises(ComparisonError, match="Cannot use this name: person is"):
        Studio(tmp_path / "other", studio.tools, name)
    assert studio.session("tab").person == "me"
    assert not (tmp_path / "other").exists()


def test_a_file_that_is_no_taste_is_refused(studio, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(FileFormatError):
        studio.load_taste(tmp_path / "x.safetensors")


def test_a_taste_of_another_encoder_is_refused(studio):
    fakes.answer_some(studio.store)
    path = studio.save_taste("me")
    studio.encoder().identity, studio.encoder().name = "0ther" * 6, "the other"
    with pytest.raises(EncoderMismatchError, match=r"'fake'.*'the other'"):
        studio.load_taste(path)


def test_the_shelf_forgets_the_oldest():
    shelf = Shelf(room=2)
    keys = [shelf.put(fakes.picture(number)) for number in range(3)]
    assert shelf.get(keys[0]) is None
    assert shelf.get(keys[2])[:4] == b"\x89PNG"


def test_prompts_that_came_with_a_model_are_used(tmp_path):
    assert example_prompts(tmp_path) == EXAMPLES
    (tmp_path / FILE).write_text("a cat\n\n  a dog \n", encoding="utf-8")
    assert example_prompts(tmp_path) == ("a cat", "a dog")


@pytest.mark.parametrize(
    "html",
    [
        views.stage(Pair("a", "b", HOSTILE)),
        views.message(HOSTILE, HOSTILE),
        views.note(HOSTILE),
        views.waiting(HOSTILE),
    ],
)
def test_no_text_becomes_markup(html):
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html


def test_the_learned_page_shows_the_accuracy_with_its_interval(studio):
    fakes.answer_some(studio.store, person=HOSTILE, number=20)
    learned = studio.learned(HOSTILE)
    html = views.learned(learned)
    assert f'data-accuracy="{learned.report.accuracy:.3f}"' in html
    assert "95\u00a0% interval" in html
    assert "<polyline" in html
    assert "<img src=x" not in html


def test_lost_and_damaged_pictures_spoil_nothing_else(studio):
    fakes.answer_some(studio.store, number=6)
    first, second = studio.store.comparisons("me")[:2]
    studio.store.image_path(first.left).unlink()
    studio.store.image_path(second.right).write_bytes(b"junk")
    learned = studio.learned("me")
    assert studio.taste("me").answers == 4
    assert not {first.left, second.right} & {*learned.best, *learned.worst}


def test_a_single_answer_has_no_accuracy_yet(studio):
    fakes.answer_some(studio.store, number=1)
    assert "A few more answers" in views.learned(studio.learned("me"))


def test_counts_are_plain_english():
    assert "1 answer so far" in views.compare_status(1)
    assert "skipped 2 files" in views.compare_status(0, broken=2)
