"""A session and what feeds it: pairs ahead, prompts, folders, answers, undo. No Gradio, no real model."""

import os
import shutil
import threading
import time

import panel_fakes as fakes
import pytest
import torch
from palate.adapters.comparisons.images import read_image
from palate.adapters.errors import ComparisonError, EncoderError, ImageError, StoreError
from palate.ui.panel.ahead import PairsAhead
from palate.ui.panel.maker import PairMaker
from palate.ui.panel.pair import Pair
from palate.ui.panel.session import HAND
from palate.ui.panel.sources import FolderSource, PromptSource
from palate.ui.panel.studio import Studio
from palate.ui.panel.wanted import Wanted, Wishes

LONG = 30.0  # s, only ever waited for when something is broken


def never():
    return False


def filled(session):
    """Return all the pairs that a browser would hold."""
    until = time.monotonic() + LONG
    while len(pairs := session.pairs(timeout=LONG)) < HAND and time.monotonic() < until:
        time.sleep(0.005)
    return pairs


def numbered():
    """Make pairs 1, 2, 3, ..."""
    number = iter(range(1, 10_000))
    return lambda hurry, cancelled: Pair(f"left{next(number)}", "right")


@pytest.fixture
def ahead():
    queue = PairsAhead(numbered())
    yield queue
    queue.close()


@pytest.fixture
def session(studio):
    return studio.session("tab")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "inner").mkdir(parents=True)
    for number in range(4):
        fakes.picture(number).save(folder / "inner" / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (folder / "notes.txt").write_text("not a picture either")
    return folder


def test_pairs_come_in_the_order_they_were_made(ahead):
    assert [ahead.take(LONG).left for _ in range(3)] == ["left1", "left2", "left3"]


def test_the_next_pair_is_made_before_it_is_asked_for():
    made = threading.Semaphore(0)
    make = numbered()

    def counted(hurry, cancelled):
        pair = make(hurry, cancelled)
        made.release()
        return pair

    queue = PairsAhead(counted, depth=2)
    queue.take(LONG)
    assert all(made.acquire(timeout=LONG) for _ in range(3))  # the one taken, and two more that nobody asked for
    queue.close()


def test_a_restart_drops_what_was_being_made():
    begun, go_on = threading.Event(), threading.Event()

    def slow(hurry, cancelled):
        begun.set()
        go_on.wait(LONG)
        return Pair("stale", "right")

    queue = PairsAhead(slow)
    assert queue.take(0) is None
    assert begun.wait(LONG)
    queue.restart(lambda hurry, cancelled: Pair("fresh", "right"))
    go_on.set()
    assert queue.take(LONG).left == "fresh"
    queue.close()


def test_a_failure_is_told_once_and_then_tried_again():
    results = iter([ImageError("no pictures"), Pair("left", "right")])

    def make(hurry, cancelled):
        result = next(results, None) or Pair("more", "right")
        if isinstance(result, Exception):
            raise result
        return result

    queue = PairsAhead(make)
    with pytest.raises(ImageError, match="no pictures"):
        queue.take(LONG)
    assert queue.take(LONG).left == "left"
    queue.close()


def test_prompts_are_painted_with_two_different_seeds():
    painter = fakes.FakePainter()
    source = PromptSource(lambda: painter, ["a cat"], seed=1)
    pool = source.pool(True, never)
    assert (pool.prompt, pool.model, len(pool.candidates)) == ("a cat", "fake", 2)
    assert len({candidate.seed for candidate in pool.candidates}) == 2


def test_pictures_that_were_not_shown_meet_the_next_ones():
    source = PromptSource(fakes.FakePainter, ["a cat"], seed=1)
    first = source.pool(False, never)
    source.done(first, 0, 1)
    second = source.pool(True, never)
    names = [candidate.name for candidate in second.candidates]
    assert len(names) == 4
    assert names[:2] == [candidate.name for candidate in first.candidates[2:]]


def test_a_cancelled_prompt_paints_nothing():
    assert PromptSource(fakes.FakePainter, ["a cat"]).pool(True, lambda: True) is None


def test_a_folder_skips_and_counts_what_it_cannot_read(pictures):
    source = FolderSource(pictures, seed=0)
    assert len(source.pool(False, never).candidates) == 4
    assert (source.count, source.broken) == (4, 1)


def test_a_folder_shows_every_pair_once_then_says_so(pictures):
    source, seen = FolderSource(pictures, seed=0), set()
    for _ in range(6):
        pool = source.pool(True, never)
        seen.add(frozenset(candidate.name for candidate in pool.candidates))
        source.done(pool, 0, 1)
    assert len(seen) == 6
    with pytest.raises(ImageError, match="seen every pair of the 4 pictures"):
        source.pool(True, never)


def test_what_comes_into_a_folder_later_is_shown(tmp_path):
    for number in range(2):
        fakes.picture(number).save(tmp_path / f"{number}.png")
    source = FolderSource(tmp_path, seed=0)
    source.done(source.pool(True, never), 0, 1)
    half = tmp_path / "2.png"
    half.write_bytes(b"half of")
    with pytest.raises(ImageError, match="seen every pair of the 2 pictures"):
        source.pool(True, never)
    assert source.broken == 1
    fakes.picture(2).save(half)
    assert str(half) in {candidate.name for candidate in source.pool(True, never).candidates}
    assert (source.count, source.broken) == (3, 0)


def test_a_copy_that_ends_while_half_of_it_is_read_is_read_again(tmp_path, monkeypatch):
    for number in range(2):
        fakes.picture(number).save(tmp_path / f"{number}.png")
    source = FolderSource(tmp_path, seed=0)
    source.done(source.pool(True, never), 0, 1)
    late = tmp_path / "2.png"
    late.write_bytes(b"half of")

    def read(path):
        if path == late and late.stat().st_size < 10:
            fakes.picture(2).save(late)
            os.utime(late, ns=(1, 1))  # of another time than the half, however coarse the clock
            raise ImageError("half of it")
        return read_image(path)

    monkeypatch.setattr("palate.ui.panel.sources.read_image", read)
    with pytest.raises(ImageError, match="seen every pair of the 2 pictures"):
        source.pool(True, never)
    assert str(late) in {candidate.name for candidate in source.pool(True, never).candidates}


@pytest.mark.parametrize("marks", ['""', "''"])
def test_a_folder_is_found_as_file_managers_copy_its_path(tmp_path, marks):
    (tmp_path / "my pictures").mkdir()
    for number in range(2):
        fakes.picture(number).save(tmp_path / "my pictures" / f"{number}.png")
    assert FolderSource(f" {marks[0]}{tmp_path / 'my pictures'}{marks[1]} ").folder == tmp_path / "my pictures"


def test_what_was_taken_out_of_a_folder_is_no_news(tmp_path):
    for number in range(3):
        fakes.picture(number).save(tmp_path / f"{number}.png")
    source = FolderSource(tmp_path, seed=0)
    for _ in range(3):
        source.done(source.pool(True, never), 0, 1)
    (tmp_path / "1.png").unlink()
    with pytest.raises(ImageError, match="seen every pair of the 2 pictures"):
        source.pool(True, never)


@pytest.mark.parametrize("folder", ["", "   ", "/no/such/folder", __file__, "x" * 4000, "a\0b", "~nobody-of-this-name"])
def test_what_is_no_folder_is_refused(folder):
    with pytest.raises(ImageError, match="is no folder"):
        FolderSource(folder)


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match="at least two pictures"):
        FolderSource(tmp_path).pool(True, never)


def test_a_folder_of_one_picture_twice_makes_no_pair(studio, tmp_path):
    for name in ("a.png", "b.png"):
        fakes.picture(1).save(tmp_path / name)
    session = studio.session("tab")
    session.use(Wanted(folder=str(tmp_path)))
    with pytest.raises(ImageError):
        session.show(LONG)


def test_an_answer_is_stored_with_all_that_is_known(session, studio):
    session.use(Wanted("a cat"))
    pair = session.show(LONG)
    session.answer(pair.ticket, "right", seconds=1.25)
    (stored,) = studio.store.comparisons("me")
    assert (stored.chosen, stored.rejected) == (pair.right, pair.left)
    assert (stored.prompt, stored.model, stored.source, stored.seconds) == ("a cat", "fake", "panel:random", 1.25)
    assert (stored.left_seed, stored.right_seed) == (pair.left_seed, pair.right_seed)
    assert studio.store.has_image(pair.left)


def test_a_double_click_is_one_answer(session, studio):
    pair = session.show(LONG)
    assert session.answer(pair.ticket, "left") is not None
    assert session.answer(pair.ticket, "right") is None
    assert [one.outcome for one in studio.store.comparisons()] == ["left"]


def test_answers_to_pairs_behind_the_one_on_screen_are_stored_in_their_order(session, studio):
    pairs = filled(session)
    for pair, outcome in zip(pairs, ("left", "tie", "right"), strict=True):
        session.answer(pair.ticket, outcome)
    assert [(one.left, one.outcome) for one in studio.store.comparisons("me")] == [
        (pair.left, outcome) for pair, outcome in zip(pairs, ("left", "tie", "right"), strict=True)
    ]


def test_an_answer_that_is_none_is_refused(session):
    with pytest.raises(ComparisonError, match="'maybe'"):
        session.answer(session.show(LONG).ticket, "maybe")


def test_the_pair_stays_when_its_answer_cannot_be_stored(session, studio, monkeypatch):
    pair = session.show(LONG)

    def full(*anything):
        raise StoreError("Cannot write: the disk is full; expected room. Delete something.")

    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(studio.store, "answer", full)
        session.answer(pair.ticket, "left")
    assert session.show() == pair
    assert session.answer(pair.ticket, "left") is not None


def test_undo_shows_the_pair_again_and_keeps_the_one_on_screen(session, studio):
    first = session.show(LONG)
    session.answer(first.ticket, "left")
    second = session.show(LONG)
    assert session.undo() == first
    assert studio.store.comparisons() == []
    session.answer(first.ticket, "tie")
    assert session.show(LONG) == second


def test_undo_also_takes_back_what_was_not_answered_here(session, studio):
    fakes.answer_some(studio.store, number=1)
    before = studio.store.comparisons("me")[0]
    again = session.undo()
    assert (again.left, again.right) == (before.left, before.right)
    assert session.answer(again.ticket, "tie").outcome == "tie"


def test_undo_with_no_answer_changes_nothing(session):
    pair = session.show(LONG)
    assert session.undo() is None
    assert session.show() == pair


def test_another_prompt_replaces_the_pair_and_those_ahead(session, studio):
    session.use(Wanted("a cat"))
    filled(session)
    session.use(Wanted("a dog"))
    for _ in range(4):
        pair = session.show(LONG)
        assert pair.prompt == "a dog"
        session.answer(pair.ticket, "skip")
    assert {offer.prompt for offer in studio.store.offers("me")} <= {"a dog"}


def test_two_people_keep_their_answers_apart(session, studio):
    for name, outcome in (("Ada", "left"), ("Ben/../x", "right")):
        session.use_person(name)
        session.answer(session.show(LONG).ticket, outcome)
    assert studio.store.people() == ["Ada", "Ben/../x"]


def test_an_answer_belongs_to_whom_the_pair_was_shown(session, studio):
    session.use_person("Ada")
    pair = session.show(LONG)
    session.use_person("Ben")
    session.answer(pair.ticket, "left")
    assert studio.store.people() == ["Ada"]


def test_the_pair_on_screen_waits_for_its_person(session):
    session.use_person("Ada")
    first = filled(session)[0]
    session.use_person("Ben")
    assert session.show(LONG) != first
    session.use_person("Ada")
    assert session.show(LONG) == first


def test_a_restart_brings_back_the_same_pair_and_what_to_compare(session, studio):
    session.use(Wanted("a cat"))
    first = filled(session)[0]
    studio.close()
    again = Studio(studio.store.path, fakes.fake_tools())
    assert again.session("other tab").show(LONG) == first
    assert again.session("other tab").wanted == Wanted("a cat")
    again.close()


def test_after_a_crash_an_answer_to_a_pair_behind_is_still_stored(session, studio):
    pairs = filled(session)
    again = Studio(studio.store.path, fakes.fake_tools())  # nobody closed the first one
    assert again.session("tab").answer(pairs[1].ticket, "left").outcome == "left"
    assert again.session("tab").answer(pairs[1].ticket, "left") is None
    again.close()


def test_answers_given_while_the_panel_was_closed_are_stored_when_it_is_back(session, studio):
    pairs = filled(session)
    studio.close()
    again = Studio(studio.store.path, fakes.fake_tools())
    stored = [again.session("tab").answer(pair.ticket, "left") for pair in pairs]
    again.close()
    assert [(one.left, one.right) for one in stored] == [(pair.left, pair.right) for pair in pairs]


def test_answers_of_two_tabs_are_stored_after_a_restart_whichever_comes_back_first(session, studio):
    held = [*filled(session), *filled(studio.session("other tab"))]
    studio.close()
    again = Studio(studio.store.path, fakes.fake_tools())
    first = again.session("tab")
    first.pairs()  # takes up what was left
    stored = [first.answer(pair.ticket, "left") for pair in held]
    again.close()
    assert [one and one.left for one in stored] == [pair.left for pair in held]


def test_two_tabs_of_one_person_show_different_pairs(session, studio):
    other = studio.session("other")
    assert not {pair.ticket for pair in filled(session)} & {pair.ticket for pair in filled(other)}


def test_a_folder_that_is_gone_at_a_restart_makes_way_for_prompts(session, studio, pictures):
    session.use(Wanted(folder=str(pictures)))
    shutil.rmtree(pictures)
    again = Studio(studio.store.path, fakes.fake_tools())
    assert again.session("tab").show(LONG).prompt
    again.close()


def test_a_pair_whose_pictures_are_gone_is_not_shown_again(session, studio):
    pair = filled(session)[0]
    session.close()
    studio.store.image_path(pair.left).unlink()
    studio.leave("tab")
    assert studio.session("tab").show(LONG).ticket != pair.ticket


def test_what_is_kept_may_be_anything(tmp_path):
    wishes = Wishes(tmp_path)
    (tmp_path / "me.json").write_text("[]")
    assert wishes.of("me") is None
    wishes.keep("me", Wanted("🐱 {}"))
    assert wishes.of("me") == Wanted("🐱 {}")


def test_one_pair_in_three_is_drawn_by_chance_from_pictures_nobody_chose_among(tmp_path):
    painter, chosen = fakes.FakePainter(), []
    studio = Studio(tmp_path / "store", fakes.fake_tools(painter, choose=lambda model, vectors: (0, 1)))
    fakes.answer_some(studio.store)
    make = PairMaker(studio, PromptSource(studio.painter, ["a cat"]), "me", seed=0)
    for _ in range(7):
        before = len(painter.asked)
        pair = make(False, never)
        fresh = {seed for _, seed in painter.asked[before:]}
        chosen.append(pair.source)
        assert pair.source == "panel" or {pair.left_seed, pair.right_seed} <= fresh
    assert chosen == ["panel:random", "panel", "panel", "panel:random", "panel", "panel", "panel:random"]
    studio.close()


def test_sides_are_tossed(tmp_path):
    painter = fakes.FakePainter()
    studio = Studio(tmp_path / "store", fakes.fake_tools(painter, choose=lambda model, vectors: (0, 1)))
    fakes.answer_some(studio.store)
    make, sides = PairMaker(studio, PromptSource(studio.painter, ["a cat"]), "me", seed=0), set()
    for _ in range(20):
        pair = make(False, never)
        painted = [seed for _, seed in painter.asked]
        sides.add(painted.index(pair.left_seed) < painted.index(pair.right_seed))
    assert sides == {True, False}
    studio.close()


def test_without_an_encoder_pictures_are_still_compared(tmp_path):
    def none():
        raise EncoderError("Cannot load the encoder: there is none.")

    studio = Studio(tmp_path / "store", fakes.fake_tools(encoder=none))
    fakes.answer_some(studio.store)
    pair = PairMaker(studio, PromptSource(studio.painter, ["a cat"]), "me")(False, never)
    assert pair.prompt == "a cat"
    studio.close()


def test_once_there_are_answers_the_most_informative_pair_is_asked(tmp_path):
    pools = []

    def choose(model, vectors):
        pools.append(len(vectors))
        return 1, 3

    studio = Studio(tmp_path / "store", fakes.fake_tools(choose=choose))
    make = PairMaker(studio, PromptSource(studio.painter, ["a cat"]), "me")
    for _ in range(4):
        make(False, never)
    assert pools == []
    fakes.answer_some(studio.store)
    pair = make(False, never)
    assert pools == [4]
    assert set(studio.store.vectors(fakes.FakeEncoder.identity, [pair.left, pair.right])) == {pair.left, pair.right}
    studio.close()


def test_a_file_that_became_another_picture_is_looked_at_again(studio, tmp_path):
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for number, file in enumerate(files):
        fakes.picture(number).save(file)
    make = PairMaker(studio, FolderSource(tmp_path, seed=0), "me")
    make(False, never)
    fakes.picture(7).save(files[0])
    make._source = FolderSource(tmp_path, seed=0)
    pair = make(False, never)
    kept = studio.store.vectors(studio.encoder().identity, [pair.left, pair.right])
    for side, vector in kept.items():
        assert torch.equal(torch.from_numpy(vector), studio.encoder().encode_images([studio.store.image(side)])[0])
