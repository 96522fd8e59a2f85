"""The studies of PPD, tiny: what they compute on worlds whose answer is known, and that each of them runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from palate.adapters.files.ppd_file import load_ppd, save_ppd
from palate.adapters.playground.people import FEATURES
from palate.adapters.playground.training.ppd_cards import Cards, draw_cards
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.layers import layers_of, width_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.adapters.steering import Generator
from palate.adapters.studies import ppd_blend, ppd_unseen, ppd_users
from palate.adapters.studies._painter import Painter, Seen
from palate.adapters.studies._ppd_asked import Asked
from palate.adapters.studies._ppd_people import crowd, interview, meet, true_utilities


def _cards(captions: int = 30, seed: int = 0) -> Cards:
    """Cards whose features are drawn by chance and whose vectors show them all."""
    generator = torch.Generator().manual_seed(seed)
    measured = torch.rand(captions, 12, len(FEATURES), generator=generator)
    vectors = torch.nn.functional.normalize(measured - 0.5, dim=-1)
    return Cards(
        tuple(map(str, range(captions))), torch.zeros(captions, 12, 1, 1, 1), vectors, measured, torch.zeros(1)
    )


class _Telling(torch.nn.Module):
    """An encoder that keeps the sum of differences: enough to tell people apart."""

    kind, tokens, width, config = "pairs", 1, len(FEATURES), {}

    def forward(self, chosen, rejected, mask=None):
        return (chosen - rejected).sum(1, keepdim=True)


def test_the_answers_agree_with_true_utility_as_often_as_the_studies_say():
    met = meet(40, _cards(), 50, seed=3)
    gaps = np.array(
        [
            true_utilities([person], liked)[0] - true_utilities([person], disliked)[0]
            for person, liked, disliked in zip(met.people, met.liked, met.disliked, strict=True)
        ]
    )
    assert 0.83 < (gaps > 0).mean() < 0.91


def test_the_crowd_is_made_like_people():
    cards = _cards()
    many, people = crowd(300, cards, 0), meet(60, cards, 1, seed=0).people
    spread = np.array([np.abs(person.weights / person.noise).sum() for person in people])
    assert np.median(np.abs(many.weights).sum(1)) == pytest.approx(np.median(spread), rel=0.25)
    assert (many.gains[::2] == 0).all() and (many.gains[1::2] != 0).all()


def test_the_posterior_finds_who_answered():
    many, rng = crowd(200, _cards(), 1), np.random.default_rng(0)
    first, second = rng.random((2, 300, len(FEATURES)))
    wins = (many.utilities(first) > many.utilities(second))[7]
    liked, disliked = np.where(wins[:, None], first, second), np.where(wins[:, None], second, first)
    chances = many.chances(liked, disliked)
    assert chances.sum() == pytest.approx(1.0) and chances.argmax() == 7
    likes, true = many.likes(chances, first, rng), many.utilities(first)[7]
    assert np.corrcoef(likes, true)[0, 1] > 0.95


def test_an_embedding_that_tells_people_apart_gets_near_the_bayes_decoder(monkeypatch):
    monkeypatch.setattr(ppd_users, "_BATCH", 60)
    met = meet(12, _cards(), 16 * 14, seed=5)
    teach, ask = ppd_users._split(met, 16, 10, 4)
    found = ppd_users.named(_Telling(), teach, ask, 60, 0)
    best = ppd_users.decoded(met, 16, 10, 4)
    assert found.shape == best.shape == (12, 4)
    assert 2.5 / 12 < (found < 1).mean() <= (best < 1).mean() + 0.15
    assert (best < 1).mean() > 0.5


def test_what_vectors_show_in_full_is_read_from_them():
    met = meet(3, _cards(), 20, seed=5)
    read = ppd_users._read(met, _cards(200, seed=1))
    assert np.abs(read.liked - met.liked).mean() < 0.1 * met.liked.std()
    assert read.people is met.people and read.chosen is met.chosen


def test_who_is_asked_well_is_known_sooner():
    cards = _cards()
    many = crowd(2000, cards, 1)
    met = meet(30, cards, 12, seed=2)
    well = interview(met, cards, many, 12, 60, seed=0)
    assert well.liked.shape == met.liked.shape and well.chosen.shape == met.chosen.shape
    sure = [
        [np.sort(many.chances(who.liked[p], who.disliked[p]))[-20:].sum() for p in range(30)] for who in (well, met)
    ]
    assert np.mean(sure[0]) > np.mean(sure[1])
    true = [
        true_utilities([p], a)[0] > true_utilities([p], b)[0]
        for p, a, b in zip(met.people, well.liked, well.disliked, strict=True)
    ]
    assert np.mean(true) > 0.6  # noise included: who is asked what is hardest to guess errs more


def test_ranks_count_who_is_likelier():
    scores = np.array([[[0.1, 0.9, 0.0]], [[0.2, 0.7, 0.1]], [[0.5, 0.4, 0.3]]])
    assert ppd_users._ranks(scores).tolist() == [[1], [0], [2]]


def test_edges_are_between_all_corners_and_rank_correlations_follow_them():
    blends = ppd_blend.edges(3, 3)
    assert len(blends) == 6 and (0.5, 0.5, 0.0) in blends and all(sum(blend) == 1.0 for blend in blends)
    weights = np.array(blends)
    rising = ppd_blend.ranked(blends, weights)
    assert len(rising) == 6 and all(value == pytest.approx(1.0) for value in rising.values())
    assert all(value == pytest.approx(-1.0) for value in ppd_blend.ranked(blends, -weights).values())


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A PPD that does something, and a playground that samples in two steps."""
    generator = Generator("playground")
    generator.defaults = replace(generator.defaults, steps=2)
    unet = generator._pipeline.unet
    attention = UserAttention(layers_of(unet), width_of(unet))
    torch.manual_seed(0)
    for value in attention.values:
        torch.nn.init.normal_(value.weight, std=0.3)
    encoder = PairsEncoder(generator.encoder.dim, width_of(unet), tokens=2, hidden=32, layers=1)
    for study in (ppd_unseen, ppd_users, ppd_blend):
        monkeypatch.setattr(study, "Generator", lambda name: generator)
    file = save_ppd(PPD(attention, encoder, "playground", image_encoder=generator.encoder.identity), tmp_path / "x")
    return ["--ppd", str(file), "--cache", str(tmp_path), "--captions", "2", "--seed", "1"]


def test_ppd_unseen_runs(quick, capsys):
    few = ["--people", "2", "--share", "1", "--prompts", "2", "--pairs", "1,2", "--cards", "2", "--crowd", "60"]
    few += ["--pool", "5"]
    assert ppd_unseen.run([*quick, *few, "--sft", quick[1]]) == 0
    printed = capsys.readouterr().out
    arms = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")][2:]
    assert arms.count("**ppd**") == arms.count("**ppd**, asked well") == 2
    assert arms.count("Bayes, best of 2 drawn cards") == arms.count("Bayes, best of 2 drawn cards, asked well") == 2
    assert arms.count("**ppd**, two liked words") == arms.count("all that the answers give") == 2
    assert {"base model", "a stranger's", "in words", "steering", "SFT on everybody's"} <= set(arms)
    assert "palate study ppd-unseen" in printed


def test_questions_drawn_anew_go_to_the_same_people_and_count_alike():
    cards, options = _cards(), argparse.Namespace(seed=3, pairs=[2, 4], pool=0)
    met = meet(5, cards, 4, seed=3)
    first, again = (ppd_unseen._Known.of(met, cards, crowd(1, cards, 3), options, turn) for turn in (0, 1))
    assert first.met is met and again.met.people == met.people
    assert again.met.chosen.shape == met.chosen.shape and not torch.equal(again.met.chosen, met.chosen)
    plain = np.zeros((2, 3))
    wins, gain = ppd_unseen._compared([plain + 1.0, plain - 3.0], plain, seed=0)
    assert wins.startswith("50.0 ") and gain.startswith("-1.00 ")


def test_without_strength_every_user_gets_the_base_models_pictures(quick, capsys):
    few = ["--people", "2", "--share", "1", "--prompts", "2", "--pairs", "2", "--cards", "0", "--pool", "0"]
    assert ppd_unseen.run([*quick, *few, "--arms", "ppd", "--strength", "0", "--draws", "2"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 2 and "| 50.0 (50 to 50) | +0.00 (+0.00 to +0.00) |" in rows[1]


def test_of_three_pictures_each_prompt_keeps_the_one_that_its_persons_taste_likes(monkeypatch):
    class Likes:
        """A taste for one of two things that pictures show."""

        def __init__(self, place):
            self.place = place

        def utility(self, vectors):
            return vectors[:, self.place]

    # Two people, two prompts each: what the pictures of the first, second and third noise show.
    shown = np.array(
        [[[1, 0], [0, 0], [1, 0], [0, 9]], [[2, 0], [0, 0], [2, 0], [0, 8]], [[0, 9], [1, 0], [0, 9], [9, 7]]]
    )
    noise = [Seen(np.full((4, 1), again), ({"again": str(again)},) * 4, shown[again]) for again in range(3)]
    monkeypatch.setattr(Asked, "liked_words", lambda *_: None)
    monkeypatch.setattr(Asked, "personal", lambda self, ppd, tokens, said, again: noise[again])
    seen = Asked(None, None, [["a", "b"], ["c", "d"]]).given(None, None, [Likes(0), Likes(1)])
    assert seen.features[:, 0].tolist() == [1, 2, 2, 0] and seen.vectors.tolist() == [[2, 0], [1, 0], [0, 9], [0, 9]]
    assert [row["again"] for row in seen.named] == ["1", "2", "2", "0"]


def test_the_words_that_a_taste_likes_follow_the_prompt_and_only_the_users_picture_has_the_user(quick):
    generator = ppd_unseen.Generator("playground")
    met = meet(2, draw_cards(generator, 2, "any", 1, Path(quick[3])), 8, seed=1)
    asked = Asked(Painter(generator), met, [["a red star"], ["a red star"]])
    said = asked.liked_words(asked.tastes(8))
    found = [said(person, "a red star") for person in range(2)]
    assert all(text.startswith("a red star, ") for text in found) and found[0] != found[1]
    ppd = load_ppd(quick[1])
    tokens = torch.zeros(2, 2, ppd.width)
    nobody, plain = asked.personal(ppd, tokens, said), asked.plain(said)
    assert np.allclose(nobody.features, plain.features, atol=1e-4)
    assert not np.allclose(asked.personal(ppd, tokens, said, again=1).features, plain.features, atol=1e-4)


def test_ppd_users_runs(quick, capsys):
    few = ["--people", "3", "--pairs", "2", "--chunks", "2", "--questions", "2", "--steps", "3"]
    assert ppd_users.run([*quick, *few]) == 0
    assert "| 2 | 16 | 100.0 (100.0 to 100.0) | 100.0 | 100 | 100.0 | 100.0 |" in capsys.readouterr().out


def test_rewards_go_together_only_as_far_as_they_do_within_a_caption():
    caption = np.arange(4.0)[:, None].repeat(3, 1)  # all rewards rise from caption to caption, which no pair shows
    same, other = np.array([-1.0, 0.0, 1.0]), np.array([1.0, -2.0, 1.0])
    rewards = np.stack([caption + same, caption + 2 * same, caption + other, caption - same], axis=-1)
    assert np.allclose(ppd_blend.together(rewards)[0], [1.0, 1.0, 0.0, -1.0])


def test_ppd_blend_runs_and_says_which_rewards_there_are(quick, capsys):
    few = ["--prompts", "2", "--points", "2", "--pairs", "3"]
    assert ppd_blend.run([*quick, *few, "--rewards", "brightness,frame"]) == 0
    printed = capsys.readouterr().out
    assert "brightness, from frame" in printed and "| brightness and frame |" in printed
    with pytest.raises(SystemExit):
        ppd_blend.run(["--rewards", "beauty,frame"])
