"""A taste in words: known signs only, told from the mean of a kind, no two of the same meaning."""

import numpy as np
import pytest
import torch
from palate.adapters.errors import ShapeError
from palate.adapters.playground import playground_words
from palate.adapters.taste import VOCABULARY, BradleyTerry, Taste, Word, words_of
from palate.adapters.taste.words import SURE, WordEffect

WORDS = [Word(text, "colour", text) for text in ("red", "green", "blue")]


def fitted(chosen, rejected, variance=4.0):
    model = BradleyTerry(variance).fit(chosen, rejected)
    weights = torch.from_numpy(model.weights_.astype(np.float32))
    return Taste(weights, "e" * 8, "fake", "me", len(chosen), prior_variance=variance, fitted=model)


def lover_of_red(count, width=8):
    """Pictures of random amounts of red, green, blue and more; the redder one is always chosen."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, count, width))
    redder = (first[:, 0] > second[:, 0])[:, None]
    pictures = np.concatenate([first, second])
    return fitted(np.where(redder, first, second), np.where(redder, second, first)), pictures


def test_who_likes_red_is_said_to_like_red():
    taste, pictures = lover_of_red(200)
    likes, dislikes = words_of(taste, WORDS, np.eye(8)[:3], pictures)
    assert likes[0].word.text == "red"
    assert "red" not in [one.word.text for one in dislikes]
    assert likes[0].effect > SURE * likes[0].deviation


def test_after_one_answer_no_word_is_sure():
    taste, pictures = lover_of_red(1)
    assert words_of(taste, WORDS, np.eye(8)[:3], pictures) == ([], [])


def test_likely_words_come_after_sure_ones_and_say_that_they_are_not_sure():
    taste, pictures = lover_of_red(200)
    found = [one for side in words_of(taste, WORDS, np.eye(8)[:3], pictures) for one in side]
    assert all(one.likely for one in found) and any(one.sure for one in found)
    for side in words_of(lover_of_red(12)[0], WORDS, np.eye(8)[:3], pictures):
        assert [one.sure for one in side] == sorted((one.sure for one in side), reverse=True)
    assert WordEffect(WORDS[0], 1.5, 1.0).likely and not WordEffect(WORDS[0], 1.5, 1.0).sure


def test_the_effect_is_the_utility_gained_by_one_deviation_of_the_score():
    """Pictures at -1 and 1 on the only axis: the score's deviation is 1 and the effect the weight itself."""
    taste = fitted(np.array([[1.0, 0.0]] * 40), np.array([[-1.0, 0.0]] * 40))
    words = [Word("more", "k", "more"), Word("less", "k", "less")]
    likes, dislikes = words_of(taste, words, [[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]], most=1)
    assert likes[0].effect == pytest.approx(float(taste.model.weights_[0]), rel=1e-6)
    assert likes[0].deviation == pytest.approx(float(np.sqrt(taste.model.utility_variance([[1.0, 0.0]])[0])), rel=1e-6)
    assert dislikes[0].word.text == "less"


def test_words_are_told_from_the_mean_of_their_kind():
    """What all words of a kind share, a way of speaking, moves nothing."""
    taste, pictures = lover_of_red(200)
    speech = np.r_[np.zeros(3), 5.0, np.zeros(4)]
    plain = words_of(taste, WORDS, np.eye(8)[:3], pictures)
    spoken = words_of(taste, WORDS, np.eye(8)[:3] + speech, pictures)
    assert [one.word for one in plain[0]] == [one.word for one in spoken[0]]
    assert plain[0][0].effect == pytest.approx(spoken[0][0].effect)


def test_two_words_of_one_meaning_are_said_once():
    taste, pictures = lover_of_red(200)
    words = [*WORDS, Word("crimson", "colour", "crimson")]
    vectors = np.concatenate([np.eye(8)[:3], np.eye(8)[:1] + 0.01])
    likes, _ = words_of(taste, words, vectors, pictures)
    assert len({one.word.text for one in likes} & {"red", "crimson"}) == 1


@pytest.mark.parametrize("pictures", [np.zeros((0, 8)), np.ones((1, 8)), np.ones((5, 8))])
def test_pictures_that_do_not_differ_say_nothing(pictures):
    assert words_of(lover_of_red(20)[0], WORDS, np.eye(8)[:3], pictures) == ([], [])


def test_as_many_vectors_as_words_are_needed():
    taste, pictures = lover_of_red(5)
    with pytest.raises(ShapeError, match="3 words, 2 vectors"):
        words_of(taste, WORDS, np.eye(8)[:2], pictures)
    with pytest.raises(ShapeError, match="word_vectors"):
        words_of(taste, WORDS, np.eye(5)[:3], pictures)


def test_the_vocabulary_says_each_word_once():
    assert 180 <= len(VOCABULARY) <= 260
    assert len({word.text for word in VOCABULARY}) == len(VOCABULARY)
    assert {word.kind for word in VOCABULARY} == {"subject", "style", "colour", "light", "mood", "composition"}


def test_the_playground_speaks_in_its_captions():
    words = {word.text: word.sentence for word in playground_words()}
    assert words["red"] == "a red shape"
    assert words["night background"] == "a shape, night background"
    assert words["on the left"] == "a shape on the left"
