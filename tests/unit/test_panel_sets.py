"""Four at once: sets that a session hands out, their answers, undo; repeats; a second look. No browser, no model."""

import threading
import time
from dataclasses import replace

import panel_fakes as fakes
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from palate.adapters.comparisons import Comparison
from palate.adapters.errors import ComparisonError, ImageError
from palate.adapters.taste import Suspect, pair_to_repeat
from palate.ui.panel.compare_live import Live
from palate.ui.panel.compare_routes import compare_routes
from palate.ui.panel.maker import PairMaker
from palate.ui.panel.sources import FolderSource, PromptSource
from palate.ui.panel.studio import Studio
from palate.ui.panel.wanted import WAYS, Wanted, Wishes

LONG = 30.0  # s, only ever waited for when something is broken


def never():
    return False


@pytest.fixture
def session(studio):
    session = studio.session("tab")
    session.use(Wanted("a cat", way="best"))
    return session


@pytest.fixture
def ask(studio):
    app = FastAPI()
    app.include_router(compare_routes(studio))
    with TestClient(app) as client:
        yield lambda path, **body: client.post(
            f"/palate/api/{path}", json={"tab": "one", "person": "me", **body}
        ).json()


def set_of(ask):
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        if found := ask("compare", waiting=True)["pairs"]:
            return found[0]
    raise AssertionError("no set came")


def best(pair, index=0):
    others = [image for image in pair.images if image != pair.images[index]]
    return [[pair.images[index]], others]


def folder_of(tmp_path, number):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for one in range(number):
        fakes.picture(one).save(folder / f"{one}.png")
    return folder


def test_the_best_of_four_is_one_answer_with_what_it_implies(session, studio):
    pair = session.show(LONG)
    assert len(set(pair.images)) == 4
    ranking = session.answer(pair.ticket, "ranked", 2.0, best(pair, 2))
    assert ranking.tiers[0] == (pair.images[2],)
    assert (ranking.prompt, ranking.seconds, ranking.source) == ("a cat", 2.0, "panel:random")
    assert None not in ranking.seeds
    assert studio.store.count("me") == 1
    assert {one.chosen for one in studio.store.comparisons("me")} == {pair.images[2]}


@pytest.mark.parametrize("outcome", ["both_bad", "skip"])
def test_no_answer_and_none_is_good_are_answers_to_a_set(session, studio, outcome):
    session.answer(session.show(LONG).ticket, outcome)
    assert [one.outcome for one in studio.store.rankings("me")] == [outcome]


def test_undo_of_a_set_shows_it_again(session, studio):
    first = session.show(LONG)
    session.answer(first.ticket, "ranked", None, [[image] for image in first.images])
    second = session.show(LONG)
    assert session.undo() == first
    assert studio.store.count("me") == 0
    session.answer(first.ticket, "ranked", None, best(first))
    assert session.show(LONG) == second
    assert len(studio.store.rankings("me")) == 1


def test_two_tabs_that_undo_at_once_take_two_answers_back_and_show_both(session, studio):
    other = studio.session("other")
    answered = []
    for one in (session, other, session):
        answered.append(one.show(LONG))
        one.answer(answered[-1].ticket, "ranked", None, best(answered[-1]))
    undone, together = [], threading.Barrier(2)

    def take_back(one):
        together.wait(LONG)
        undone.append(one.undo().ticket)

    threads = [threading.Thread(target=take_back, args=(one,)) for one in (session, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sorted(undone) == sorted(pair.ticket for pair in answered[1:])
    assert [ranking.images for ranking in studio.store.rankings("me")] == [answered[0].images]


@pytest.mark.parametrize(
    ("outcome", "tiers"),
    [
        ("left", ()),
        ("ranked", ()),
        ("ranked", [["x"], ["y"]]),
        ("ranked", [["left"]] * 2),
        ("maybe", ()),
        ("tie", [["x"]]),
    ],
)
def test_what_is_no_answer_to_a_set_is_refused_and_the_set_stays(session, outcome, tiers):
    pair = session.show(LONG)
    with pytest.raises(ComparisonError):
        session.answer(pair.ticket, outcome, None, tiers)
    assert session.show(LONG) == pair


def test_a_set_answer_to_a_pair_is_refused_and_holds_nothing_up(ask, studio):
    pair = set_of(ask)
    wrong = {"ticket": pair["ticket"], "outcome": "ranked", "tiers": [[pair["images"][0]], [pair["images"][1]]]}
    told = ask("compare", answers=[wrong, {"ticket": pair["ticket"], "outcome": "left"}, "nonsense", None])
    assert told["done"] == [pair["ticket"]] * 2
    assert "could not be used" in told["problem"]
    assert [one.outcome for one in studio.store.comparisons("me")] == ["left"]


def test_the_way_of_asking_is_remembered_and_changes_what_lies_on_the_screen(ask, studio):
    assert len(set_of(ask)["images"]) == 2
    assert ask("wanted", way="order")["wanted"]["way"] == "order"
    found = set_of(ask)
    assert len(found["images"]) == 4
    order = [[image] for image in found["images"][::-1]]
    answer = {"ticket": found["ticket"], "outcome": "ranked", "tiers": order, "seconds": 1}
    for _ in range(2):  # a double click is one answer
        assert ask("compare", answers=[answer])["done"] == [found["ticket"]]
    assert [list(map(list, one.tiers)) for one in studio.store.rankings("me")] == [order]
    studio.close()
    again = Studio(studio.store.path, fakes.fake_tools())
    assert again.session("other tab").wished() == Wanted(way="order")
    again.close()


@pytest.mark.parametrize(
    "wrong", [{"way": "four"}, {"way": None}, {"surprise": 2}, {"surprise": "much"}, {"way": ["x"]}]
)
def test_a_way_that_is_none_is_an_error_in_words(ask, wrong):
    assert "Cannot ask" in ask("wanted", **wrong)["error"]


def test_moving_the_slider_leaves_the_screen_alone(session, studio):
    pair = session.show(LONG)
    session.use(Wanted("a cat", way="best", surprise=0.7))
    assert session.show(LONG) == pair
    assert Wishes(studio.wishes._folder).of("me").surprise == 0.7


def test_what_an_older_panel_kept_is_still_understood(tmp_path):
    (tmp_path / "me.json").write_text('{"prompt": "a cat", "folder": ""}')
    assert Wishes(tmp_path).of("me") == Wanted("a cat")
    (tmp_path / "me.json").write_text('{"prompt": "a cat", "folder": "", "way": "ten", "surprise": 9}')
    assert Wishes(tmp_path).of("me") == Wanted("a cat")
    assert set(WAYS) == {"pairs", "best", "order"}


def test_a_folder_gives_sets_of_which_no_two_met_then_others_then_says_that_all_were_seen(tmp_path):
    source, shown = FolderSource(folder_of(tmp_path, 5), seed=0), []
    with pytest.raises(ImageError, match="every set of 4 of the 5"):
        while True:
            pool = source.pool(True, never, 4)
            source.done(pool, 0, 1, 2, 3)
            shown.append(frozenset(one.name for one in pool.candidates))
    assert len(shown) == len(set(shown)) == 5


def test_a_folder_with_too_few_for_a_set_says_so(tmp_path):
    source = FolderSource(folder_of(tmp_path, 3))
    with pytest.raises(ImageError, match="found 3 readable pictures and 0 broken files; expected at least 4"):
        source.pool(True, never, 4)


def test_a_folder_without_pictures_is_refused_at_once_and_not_remembered(session, studio, tmp_path):
    pair = session.show(LONG)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.png").write_text("no picture")
    with pytest.raises(ImageError, match="found 0 readable pictures and 1 broken"):
        session.use(Wanted(folder=str(tmp_path / "empty")))
    assert session.show(LONG) == pair
    assert studio.wishes.of("me") == Wanted("a cat", way="best")


def test_sets_are_chosen_by_what_they_teach_with_the_share_of_variety_that_is_wished_for(tmp_path):
    asked = []

    def choose_set(model, vectors, size, diversity):
        asked.append((len(vectors), size, diversity))
        return 0, 1, 2, 4

    studio = Studio(tmp_path / "store", fakes.fake_tools(choose_set=choose_set))
    fakes.answer_some(studio.store)
    make = PairMaker(studio, PromptSource(studio.painter, ["a cat"]), "me", 0, 4, lambda: 0.3)
    sources = [make(False, never).source for _ in range(4)]
    assert sources == ["panel:random", "panel", "panel", "panel:random"]
    assert [(size, share) for _, size, share in asked] == [(4, 0.3)] * 2
    studio.close()


def test_with_surprise_pairs_are_chosen_for_variety_too_and_chance_keeps_its_third(tmp_path):
    studio, asked = (
        Studio(tmp_path / "store", fakes.fake_tools(choose_set=lambda *given: asked.append(given) or (0, 1))),
        [],
    )
    fakes.answer_some(studio.store)
    make = PairMaker(studio, PromptSource(studio.painter, ["a cat"]), "me", surprise=lambda: 1.0)
    assert [make(False, never).source for _ in range(3)] == ["panel:random", "panel", "panel"]
    assert [(size, share) for _, _, size, share in asked] == [(2, 1.0)] * 2
    studio.close()


def test_the_real_tools_choose_four_different_pictures(studio):
    fakes.answer_some(studio.store)
    encoder = studio.encoder()
    vectors = encoder.encode_images([fakes.picture(number) for number in range(9)])
    found = studio.tools.choose_set(studio.taste("me").model, vectors, 4, 0.5)
    assert len(set(found)) == 4


def test_now_and_then_a_pair_comes_again_with_its_sides_swapped(tmp_path):
    studio = Studio(tmp_path / "store", fakes.fake_tools(repeat=pair_to_repeat))
    fakes.answer_some(studio.store, number=20)
    make = PairMaker(studio, PromptSource(studio.painter, ["a cat"]), "me", seed=0)
    made = [make(False, never) for _ in range(4)]
    known = {(one.right, one.left) for one in studio.store.comparisons("me")}
    assert [pair.source for pair in made].count("panel:repeat") == 1
    assert all(((pair.left, pair.right) in known) == (pair.source == "panel:repeat") for pair in made)
    studio.close()


@pytest.fixture
def looking(tmp_path):
    """A live view of somebody whose first answer looks like a slip."""

    def slips(store, encoder, person, most):
        return [Suspect(store.comparisons(person)[0], 0.9)]

    studio = Studio(tmp_path / "store", fakes.fake_tools(second_look=slips))
    fakes.answer_some(studio.store, number=4)
    yield studio, Live(studio)
    studio.close()


def found_slips(live):
    until = time.monotonic() + LONG
    while not (found := live.slips("me")) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def test_a_slip_that_is_changed_is_replaced(looking):
    studio, live = looking
    (slip,) = found_slips(live)
    other = "left" if slip.outcome == "right" else "right"
    for _ in range(2):  # a double click
        live.look_again("me", slip.id, slip.outcome, other)
    assert studio.store.comparisons("me")[0].outcome == other
    assert studio.store.count("me") == 4


def test_a_slip_that_is_kept_was_meant_and_is_not_asked_about_again(looking):
    studio, live = looking
    (slip,) = found_slips(live)
    for _ in range(2):
        live.look_again("me", slip.id, slip.outcome, slip.outcome)
    last = studio.store.comparisons("me")[-1]
    assert (last.source, last.outcome, {last.left, last.right}) == (
        "panel:second-look",
        slip.outcome,
        {slip.left, slip.right},
    )
    assert studio.store.count("me") == 5
    assert live.slips("me") == []


def test_only_ones_own_answers_that_are_still_there_are_looked_at_again(looking):
    studio, live = looking
    (slip,) = found_slips(live)
    with pytest.raises(ComparisonError, match="changed or deleted"):
        live.look_again("Ben", slip.id, slip.outcome, "tie")
    studio.store.change(slip.id, "tie")
    with pytest.raises(ComparisonError, match="changed or deleted"):
        live.look_again("me", slip.id, slip.outcome, "both_bad")
    assert live.slips("me") == []


def test_the_second_look_is_asked_for_over_http(ask, studio):
    fakes.answer_some(studio.store, number=2)
    assert ask("second-look") == {"slips": []}
    number = studio.store.comparisons("me")[0].id
    assert "changed or deleted" in ask("second-look/answer", id=number, before="skip", outcome="tie")["error"]
    assert "changed or deleted" in ask("second-look/answer", id="x", before="skip", outcome="tie")["error"]
    assert isinstance(studio.store.comparisons("me")[0], Comparison)


def test_who_waits_is_told_which_step_of_loading_it_is(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(LONG)
        return fakes.FakePainter()

    studio = Studio(tmp_path / "store", replace(fakes.fake_tools(), painter=slow))
    studio.warm()  # before anybody asks
    assert begun.wait(LONG)
    assert "Loading the model: step 2 of 3" in studio.loading.text
    go_on.set()
    assert studio.painter().name == "fake"
    assert studio.loading.text == ""
    studio.close()
