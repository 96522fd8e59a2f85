"""The studio: tastes by person, what was learned, generating, taste files. No Gradio, no real model."""

import threading

import panel_fakes as fakes
import pytest
from palate.adapters.errors import (
    ComparisonError,
    NotEnoughAnswersError,
)
from palate.adapters.taste import LearningReport
from palate.adapters.taste.report import wilson_interval
from palate.ui.panel.fresh import Fresh
from palate.ui.panel.progress import progress_of
from palate.ui.panel.prompts import EXAMPLES, FILE, example_prompts
from palate.ui.panel.studio import Studio

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def test_a_taste_is_fitted_again_only_after_a_new_answer(studio):
    fakes.answer_some(studio.store)
    first = studio.taste("me")
    assert studio.taste("me") is first
    fakes.answer_some(studio.store, number=1, seed=9)
    assert studio.taste("me") is not first


def test_a_closed_tab_is_forgotten(studio):
    session = studio.session("tab")
    studio.leave("tab")
    studio.leave("never there")
    assert studio.session("tab") is not session


def test_a_taste_goes_through_a_file(studio):
    fakes.answer_some(studio.store)
    path = studio.save_taste("me")
    assert path.parent == studio.tastes_folder
    loaded = studio.tools.load(path, studio.encoder())
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


def test_prompts_that_came_with_a_model_are_used(tmp_path):
    assert example_prompts(tmp_path) == EXAMPLES
    (tmp_path / FILE).write_text("a cat\n\n  a dog \n", encoding="utf-8")
    assert example_prompts(tmp_path) == ("a cat", "a dog")


@pytest.mark.parametrize(
    ("answers", "hits", "text"),
    [
        (0, None, "10 answers for a first look"),
        (4, None, "6 more for a first look"),
        (12, (6, 8), "about 24 more and your taste is sure"),
        (40, (20, 22), "foresees 91"),
        (90, (15, 30), "no clear taste yet"),
    ],
)
def test_the_way_is_told_honestly(answers, hits, text):
    correct, count = hits or (0, 0)
    accuracy = correct / count if count else None
    report = LearningReport("me", answers, count, correct, accuracy, wilson_interval(correct, count), None, None)
    assert text in progress_of(answers, report).text


def test_two_who_ask_at_once_get_one_and_the_same():
    made, begun, go_on = [], threading.Event(), threading.Event()

    def make(person):
        begun.set()
        assert go_on.wait(30)
        made.append(person)
        return object()

    fresh = Fresh(lambda person: 1, make)
    threads, found = [], []
    for _ in range(2):
        threads.append(threading.Thread(target=lambda: found.append(fresh.of("me"))))
        threads[-1].start()
    assert begun.wait(30)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert made == ["me"]
    assert found[0] is found[1]


def test_what_is_out_of_date_is_given_at_once_and_renewed_behind():
    revision, renewed = [1], threading.Event()
    fresh = Fresh(lambda person: revision[0], lambda person: (renewed.set(), revision[0])[1])
    assert fresh.of("me") == 1
    renewed.clear()
    revision[0] = 2
    assert fresh.latest("me") == 1
    assert renewed.wait(30)


def test_what_fails_in_the_background_is_tried_again_and_not_raised():
    def fail(person):
        tried.release()
        raise NotEnoughAnswersError("Nothing yet.")

    tried = threading.Semaphore(0)
    fresh = Fresh(lambda person: 1, fail)
    assert fresh.latest("me") is None
    assert tried.acquire(timeout=30)


def test_a_reloaded_tab_keeps_its_session_and_a_closed_one_does_not(studio):
    session = studio.session("tab:a", "Ada")
    studio.arrive("page 1", "tab:a")
    studio.arrive("page 2", "tab:a")
    studio.leave("page 1")
    assert studio.session("page 2") is session
    studio.leave("page 2")
    assert studio.session("tab:a") is not session
