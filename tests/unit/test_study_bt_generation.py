"""The study bt-generation, tiny: what its numbers mean, and that its arms are what they say."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import NotEnoughAnswersError, SteeringError
from palate.adapters.files import load_ppd
from palate.adapters.playground import playground_folder
from palate.adapters.playground.captions import named_in
from palate.adapters.playground.world import draw, random_card
from palate.adapters.steering import Conditioning, Generator, SteeringSettings
from palate.adapters.steering.portable import PortableEmbedding
from palate.adapters.studies import _generation, _voters, bt_generation
from palate.adapters.studies._generation import PLAIN, Arm, Study
from palate.adapters.studies._painter import Job, Painter
from palate.adapters.studies._samples import draw_pool
from palate.adapters.studies._voters import simulated_voters, stored_voters
from palate.adapters.studies._votes import Outcome, prompt_kept, vote_shares, wins

ARM = next(arm for arm in bt_generation.ARMS if arm.name == "eos_token, Bradley-Terry")


@pytest.fixture(scope="module")
def generator():
    return Generator()


def cards(jobs):
    """A drawn postcard in place of a painted picture: the same job, the same card."""
    return [draw(random_card(random.Random(job.key))) for job in jobs]


@pytest.fixture
def study(generator, monkeypatch):
    monkeypatch.setattr(_voters, "PERFECT", 50)
    painter = Painter(generator)
    monkeypatch.setattr(painter, "_paint", cards)
    pool = draw_pool(generator.encoder, 6, random.Random(0))
    voters = simulated_voters(generator.encoder, pool, 3, 20, 0)
    prompts = ["a red star", "a small fish", "a boat, mint background"]
    return Study(painter, voters, prompts, [[0, 1], [1, 2], [2, 0]])


def test_no_turn_gives_exactly_the_originals_numbers(study):
    same, original = study.look(ARM), study.look(PLAIN)
    assert np.array_equal(same.utility, original.utility)
    assert np.array_equal(same.kept, original.kept)
    assert same.degrees == 0.0
    assert np.array_equal(wins(same.utility, original.utility), np.full(3, 0.5))


def test_the_best_of_several_seeds_is_never_worse_than_the_first(study):
    original, best = study.look(PLAIN), study.best_of(3, "utility")
    assert (best.utility >= original.utility).all()
    assert (best.utility > original.utility).any()
    assert (best.utility >= study.best_of(3, "taste").utility).all()


def test_an_arm_turns_as_far_as_it_says_and_another_taste_gives_another_picture(study):
    own = study.look(ARM, 20.0)
    assert own.degrees == pytest.approx(20.0, abs=2.0)
    stranger = replace(ARM, whose="stranger")
    assert not np.array_equal(study.look(stranger, 20.0).utility, own.utility)
    assert np.array_equal(study.look(ARM, 20.0).utility, own.utility)


def test_tuning_takes_the_most_liked_turn_among_those_that_keep_the_prompt(monkeypatch, study):
    """Turn 9 is liked most but loses prompts; of 3 and 6, 6 is liked more."""
    flat = np.zeros((3, 2))

    def look(self, arm, turn=0.0):
        return Outcome(flat + turn, np.array([[True, turn < 9]] * 3))

    monkeypatch.setattr(Study, "look", look)
    monkeypatch.setattr(Study, "original", lambda self, seeds: Outcome(flat, flat == 0))
    other = replace(ARM, name="other", as_tuned=ARM.name)
    assert bt_generation.tuned(study, [ARM, other], (3.0, 6.0, 9.0)) == {ARM.name: 6.0, "other": 6.0}
    assert bt_generation.tuned(study, [ARM], (9.0, 10.0)) == {ARM.name: 9.0}


def test_a_portable_embedding_is_trained_for_each_person(study, monkeypatch):
    trained = []

    def train(towers, tastes, prompts, turn):
        trained.append((tastes[0].person, tuple(prompts), turn))
        return PortableEmbedding({"clip_l": torch.zeros(2, 96)}, effect={"degrees": 7.0, "kept": 1.0})

    monkeypatch.setattr(_generation, "train_embedding", train)
    study.fewer, study.practice = 1, ("a red star",)
    found = study.look(Arm("portable embedding"), 12.0)
    assert trained == [(voter.name, ("a red star",), 12.0) for voter in study.voters]
    assert (found.utility.shape, found.degrees) == ((3, 1), 7.0)
    assert not np.array_equal(found.utility, study.look(PLAIN).alike(found).utility)


def test_in_words_the_prompt_says_what_the_taste_likes_best_and_it_left_open(study):
    likes = replace(study.voters[0].taste, weights=study.painter.generator.encoder.encode_texts(["mint background"])[0])
    assert study._worded("a red star", likes, 1) == "a red star, mint background"
    assert study._worded("a red star", likes, 0) == "a red star"
    assert named_in(study._worded("a red star", likes, 2)).items() >= named_in("a red star, mint background").items()
    assert study.look(Arm("words", words=1)).degrees == 0.0


def test_liked_words_are_said_and_the_longer_prompt_may_be_steered_too(study):
    taste = study.voters[0].taste
    likes = replace(taste, weights=study.painter.generator.encoder.encode_texts(["mint background"])[0] * 100)
    study.voters[0] = replace(study.voters[0], taste=replace(likes, chosen=None, rejected=None, fitted=None))
    try:
        unlike = Arm("unlike", liked=1, disliked=2)
        told = study._in_words("a red star", study.voters[0].taste, unlike)
        assert told.prompt == "a red star, mint background" and len(told.negative.split(", ")) == 2
        assert {job.negative for job in study._jobs(unlike, 0.0)[0][0]} >= {told.negative}
        said, steered = Arm("said", liked=1), Arm("both", SteeringSettings(method="eos_token"), liked=1)
        plain, words, both = (study.look(arm, 12.0) for arm in (PLAIN, said, steered))
        assert (words.degrees, said.turns, steered.turns) == (0.0, False, True) and both.degrees > 0
        assert not np.array_equal(plain.utility[0, :1], words.utility[0])
        assert not np.array_equal(words.utility, both.utility)
    finally:
        study.voters[0] = replace(study.voters[0], taste=taste)


def test_a_user_is_told_to_the_denoiser_as_strongly_as_the_arm_says(study):
    study.ppd = load_ppd(playground_folder() / "ppd.safetensors")
    whole, half = (study._jobs(Arm("a user", user=strength), 0.0)[0] for strength in (1.0, 0.5))
    first, second = whole[0][0], half[0][0]
    assert first.user.shape == second.user.shape and not torch.equal(first.user, whole[1][0].user)
    shares = [b.weight / a.weight for a, b in zip(first.ppd.attention.values, second.ppd.attention.values, strict=True)]
    assert all(torch.allclose(share, torch.tensor(0.5)) for share in shares)
    assert first.key != second.key != study._jobs(PLAIN, 0.0)[0][0][0].key
    assert not Arm("a user", user=1.0).turns


def test_whether_the_prompt_is_kept_is_measured_on_several_seeds_of_the_original(study):
    one, several = study.original(1), study.original(4)
    assert np.array_equal(one.kept, study.look(PLAIN).kept)
    assert np.array_equal(several.utility, one.utility)
    assert set(np.unique(several.kept * 4)) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_people_see_fewer_pictures_of_what_is_no_main_arm(study):
    study.fewer = 1
    few, original = study.look(ARM, 15.0), study.look(PLAIN)
    assert (few.utility.shape, original.utility.shape) == ((3, 1), (3, 2))
    assert np.array_equal(original.alike(few).utility, original.utility[:, :1])
    assert few.kept.shape == original.alike(few).kept.shape
    assert study.look(replace(ARM, main=True), 15.0).utility.shape == (3, 2)


def test_everybody_sees_enough_prompts_and_all_are_used():
    shares = bt_generation._shares(40, 100, 10)
    assert {len(row) for row in shares} == {10}
    assert {place for row in shares for place in row} == set(range(100))


def test_held_out_prompts_differ_and_name_combinations_that_were_not_trained():
    prompts = bt_generation._held_out_prompts("x", 1, 120)
    assert len(set(prompts)) == 120
    assert prompts == bt_generation._held_out_prompts("x", 1, 120)


def test_votes_by_hand():
    """Two arms, one person, two prompts: once the first is better, once they are even."""
    utility = np.array([[[1.0, 2.0]], [[0.0, 2.0]]])
    assert vote_shares(utility, noisy=False)[:, 0] == pytest.approx([0.75, 0.25])
    sigmoid = 1 / (1 + np.exp(-1.0))
    assert vote_shares(utility, noisy=True)[:, 0] == pytest.approx([(sigmoid + 0.5) / 2, (1.5 - sigmoid) / 2])


def test_three_arms_share_all_votes_and_a_constant_changes_nothing():
    utility = np.random.default_rng(0).standard_normal((3, 4, 5))
    for noisy in (True, False):
        shares = vote_shares(utility, noisy)
        assert shares.sum(axis=0) == pytest.approx(np.ones(4))
        assert vote_shares(utility + 100.0, noisy) == pytest.approx(shares)


def test_prompt_kept_is_relative_to_the_original():
    original = Outcome(np.zeros((1, 4)), np.array([[True, True, True, False]]))
    arm = Outcome(np.zeros((1, 4)), np.array([[True, True, False, False]]))
    assert prompt_kept(arm, original) == pytest.approx(2 / 3)


def test_the_painter_paints_once_and_as_the_generator_does(generator, monkeypatch):
    monkeypatch.setattr(generator, "defaults", replace(generator.defaults, steps=1))
    painter, plain = Painter(generator), generator.conditioner.plain("a red star")
    twice = painter.look([Job(plain, 3), Job(plain, 3)])
    assert painter.painted == 1
    assert np.array_equal(twice.vectors[0], twice.vectors[1])
    alone = generator.encoder.encode_images(generator.images("a red star", [3]))
    assert float(alone[0].double() @ torch.from_numpy(twice.vectors[0])) > 0.999
    assert Job(plain, 3).key != Job(plain, 4).key != Job(Conditioning(plain.tokens + 1), 4).key


def test_the_same_seed_prints_the_same_tables(generator, monkeypatch, capsys):
    monkeypatch.setattr(Painter, "_paint", lambda self, jobs: cards(jobs))
    monkeypatch.setattr(bt_generation, "Generator", lambda *args, **kwargs: generator)
    positive = replace(ARM.settings, objective="positive")
    arms = (replace(ARM, name="positive", settings=positive), replace(ARM, name="pairs"))
    monkeypatch.setattr(bt_generation, "ARMS", arms)
    monkeypatch.setattr(_voters, "PERFECT", 50)
    monkeypatch.setattr(bt_generation, "POSITIVE", "positive")
    monkeypatch.setattr(bt_generation, "MAIN", "pairs")
    printed = []
    for _ in range(2):
        assert bt_generation.run(["--quick", "--seed", "3"]) == 0
        printed.append(capsys.readouterr().out.split("Every arm")[0])
    assert printed[0] == printed[1]
    rows = printed[0].splitlines()
    assert "| votes go to the highest utility | original | positive | pairs |" in rows
    assert sum(row.startswith("| with") for row in rows) == 2


def test_real_people_are_judged_by_their_other_answers(generator, tmp_path):
    """Somebody who likes large subjects; one with too few answers is left out."""
    rng = random.Random(0)
    with PreferenceStore(tmp_path) as store:
        for person, count in (("ann", 12), ("few", 3)):
            for _ in range(count):
                small, large = (store.add_image(draw(random_card(rng, size=size))) for size in ("small", "large"))
                store.add(Comparison(person, large, small, "left", prompt=rng.choice(["a red star", "a fish"])))
        (ann,) = stored_voters(store, generator.encoder, answers=4, seed=0)
        assert (ann.name, ann.perfect, ann.taste.answers) == ("ann", None, 4)
        assert set(ann.prompts) <= {"a red star", "a fish"}
        with (
            PreferenceStore(tmp_path / "empty") as empty,
            pytest.raises(NotEnoughAnswersError, match="four preferences"),
        ):
            stored_voters(empty, generator.encoder, answers=4, seed=0)


def test_nonsense_options_are_refused(capsys):
    with pytest.raises(SystemExit):
        bt_generation.run(["--people", "0"])
    assert "expected 1 or more" in capsys.readouterr().err


def test_arms_can_be_chosen_and_bring_what_they_are_tuned_as() -> None:
    names = [arm.name for arm in bt_generation.chosen_arms(("stranger",), pooled=False)]
    assert names == [bt_generation.BEST, "a stranger's taste"]
    assert bt_generation.chosen_arms((), pooled=True)[-1] is bt_generation.POOLED
    with pytest.raises(SteeringError, match="no arm is called so"):
        bt_generation.chosen_arms(("nothing of the kind",), pooled=False)
