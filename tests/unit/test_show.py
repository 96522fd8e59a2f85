"""`palate show`: what was learned of a person, on the terminal or as a page."""

import panel_fakes as fakes
import pytest
from palate.adapters.comparisons import PreferenceStore
from palate.adapters.errors import StoreError
from palate.adapters.taste import LearningReport
from palate.ui import cli, commands
from palate.ui.show import ShowError, show_taste


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    with PreferenceStore(tmp_path / "store") as store:
        fakes.answer_some(store, "Mara", 40)
        fakes.answer_some(store, "Ben", 12, seed=3)
    return tmp_path / "store"


def show(store, *given, **tools):
    return show_taste(cli.parser().parse_args(["show", *given]), store, fakes.fake_tools(**tools))


@pytest.mark.parametrize("others", [None, 0.55])
def test_a_taste_is_told_in_words_and_numbers(store, capsys, others):
    known = LearningReport(
        "Mara", 40, 20, 15.0, 0.75, (0.53, 0.89), 0.5, 0.75, stranger_accuracy=others, advice="Good enough."
    )
    assert show(store, "Mara", report=lambda *given: known) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Mara: 40 answers"
    assert lines[1].startswith("likes ") and lines[2].startswith("dislikes ")
    assert lines[3].startswith("Predicted 15 of 20 answers before learning from them: 75 %")
    told = ["The average of others foresees 55 % of the same answers."] if others else []
    assert lines[4:] == [*told, "Good enough."]


def test_a_page_is_saved_without_the_name_unless_asked(store, tmp_path, capsys):
    page = tmp_path / "new folder" / "page.html"
    assert show(store, "Mara", "--html", str(page)) == 0
    assert "Saved " in capsys.readouterr().out
    assert "Mara" not in page.read_text(encoding="utf-8")
    show(store, "Mara", "--html", str(page), "--named")
    assert "What Mara likes" in page.read_text(encoding="utf-8")


def test_somebody_unknown_is_named_with_those_who_are_known(store):
    with pytest.raises(ShowError, match=r"Cannot show 'Eve': .*expected one of: Ben, Mara"):
        show(store, "Eve")


def test_no_store_is_made_where_there_is_none(tmp_path):
    with pytest.raises(StoreError, match="found no store there"):
        show(tmp_path / "nowhere", "Mara")
    assert not (tmp_path / "nowhere").exists()


def test_people_of_an_empty_store_are_nobody_and_it_says_so(tmp_path, capsys):
    PreferenceStore(tmp_path / "store").close()
    arguments = cli.parser().parse_args(["people", "--store", str(tmp_path / "store")])
    assert commands.people(arguments) == 0
    told = capsys.readouterr()
    assert (told.out, "Nobody has answered in" in told.err) == ("", True)
