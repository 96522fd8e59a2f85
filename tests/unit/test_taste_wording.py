"""A taste said in the prompt: what is added, what is left alone, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from palate.adapters.errors import EncoderMismatchError, ShapeError
from palate.adapters.taste import VOCABULARY, Taste, Word, prompt_in_words

NAMES = ("star", "red", "blue", "calm", "tense", "mist", "cat")
WORDS = (
    Word("red", "colour", "a picture in red"),
    Word("blue", "colour", "a picture in blue"),
    Word("calm", "mood", "calm atmosphere"),
    Word("tense", "mood", "tense atmosphere"),
    Word("mist", "light", "a picture in mist"),
    Word("a cat", "subject", "a picture of a cat"),
)


class Counting:
    """An encoder that counts words: one direction for each of NAMES, one for all others."""

    identity, name = "c" * 64, "counting"
    has_text = True

    def encode_texts(self, texts, batch_size=64):
        said = [text.replace(",", "").split() for text in texts]
        rows = [[float(words.count(name)) for name in NAMES] + [1.0] for words in said]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def taste(variance: float = 1e-6, **likes: float) -> Taste:
    weights = torch.tensor([likes.get(name, 0.0) for name in NAMES] + [0.0])
    return Taste(weights, Counting.identity, Counting.name, "mara", 20, prior_variance=variance)


def test_the_best_word_of_each_kind_is_added_best_first() -> None:
    found = prompt_in_words("a star", taste(blue=2.0, red=1.0, calm=1.5), Counting(), WORDS, most=3)
    assert found.prompt == "a star, blue, calm"
    assert [effect.word.text for effect in found.added] == ["blue", "calm"]
    plain, blue = Counting().encode_texts(["a star", "a star, blue"]).double()
    assert found.added[0].effect == pytest.approx(float((blue - plain) @ taste(blue=2.0).weights.double()))


def test_what_the_prompt_says_stays_and_nothing_against_it_is_added() -> None:
    likes = taste(blue=2.0, calm=1.0)
    assert prompt_in_words("a Red star", likes, Counting(), WORDS, most=3).prompt == "a Red star, calm"
    assert prompt_in_words("a cat", likes, Counting(), WORDS, most=3).prompt == "a cat, blue, calm"


def test_a_subject_is_never_added_even_to_an_empty_prompt() -> None:
    assert prompt_in_words("", taste(cat=9.0, mist=1.0), Counting(), WORDS, most=2).prompt == "mist"


def test_pictures_that_were_seen_say_more_than_the_prompts_embedding() -> None:
    """A word counts by what the pictures show: a liking along a word that no picture differed in is a guess."""
    encoder = Counting()
    red, blue, calm = encoder.encode_texts(["star red", "star blue", "star calm"])
    likes = replace(
        taste(blue=1.0, calm=0.5, mist=9.0), chosen=torch.stack([blue, calm]), rejected=torch.stack([red, red])
    )
    found = prompt_in_words("a star", likes, encoder, WORDS, most=3)
    assert [effect.word.text for effect in found.added] == ["blue", "calm"]
    without = replace(likes, chosen=None, rejected=None)
    assert prompt_in_words("a star", without, encoder, WORDS, most=1).prompt == "a star, mist"


def test_sentences_are_encoded_once() -> None:
    class Watched(Counting):
        asked = 0

        def encode_texts(self, texts, batch_size=64):
            self.asked += len(texts)
            return super().encode_texts(texts)

    encoder = Watched()
    pictures = Counting().encode_texts(["star red", "star blue"])
    likes = replace(taste(blue=1.0), chosen=pictures[1:], rejected=pictures[:1])
    for _ in range(2):
        assert prompt_in_words("a star", likes, encoder, WORDS).prompt == "a star, blue"
    assert encoder.asked == len(WORDS) - 1


def test_nothing_is_said_where_nothing_is_known() -> None:
    likes = {"blue": 0.1, "calm": -0.1}
    known = prompt_in_words("a star", taste(**likes), Counting(), WORDS, avoid=1)
    unknown = prompt_in_words("a star", taste(variance=1.0, **likes), Counting(), WORDS, avoid=1)
    assert (known.prompt, known.negative) == ("a star, blue", "calm")
    assert (unknown.prompt, unknown.negative, unknown.added, unknown.avoided) == ("a star", "", (), ())


def test_disliked_words_go_to_the_negative_prompt_and_their_kind_stays_free() -> None:
    found = prompt_in_words("a star", taste(red=-1.0, blue=1.0, tense=-2.0), Counting(), WORDS, most=2, avoid=2)
    assert found.negative == "tense, red" and found.prompt == "a star, blue"


def test_no_words_asked_for_gives_the_prompt() -> None:
    assert prompt_in_words("a star,", taste(blue=1.0), Counting(), WORDS, most=0).prompt == "a star,"


def test_another_encoder_and_too_many_words_are_refused() -> None:
    class Blind(Counting):
        has_text = False

    class Other(Counting):
        identity = "d" * 64

    with pytest.raises(EncoderMismatchError, match="no text side"):
        prompt_in_words("a star", taste(), Blind(), WORDS)
    with pytest.raises(EncoderMismatchError, match="expected counting"):
        prompt_in_words("a star", taste(), Other(), WORDS)
    with pytest.raises(ShapeError, match="9 to add"):
        prompt_in_words("a star", taste(), Counting(), WORDS, most=9)


def test_the_whole_vocabulary_leaves_open_what_a_prompt_does_not_name() -> None:
    from palate.adapters.taste.wording import _free

    kinds = {word.kind for word in _free("an oil painting of a fox, pastel colours", VOCABULARY)}
    assert kinds == {"light", "mood", "composition"}
