"""The playground: what is drawn is what is measured, captions can be read back, people answer as they should."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from palate.adapters.errors import FileFormatError
from palate.adapters.playground import clip_config, folder, load_clip_state
from palate.adapters.playground.captions import caption, caption_of, named_in, sample_caption
from palate.adapters.playground.measure import measure
from palate.adapters.playground.people import AGREEMENT, Person, features, make_people
from palate.adapters.playground.training.cards import as_images, held_out_cards, training_cards
from palate.adapters.playground.training.loop import train
from palate.adapters.playground.untrained import make_untrained
from palate.adapters.playground.world import NAMED, Card, draw, held_out, random_card
from PIL import Image, ImageFilter

CARD = Card("star", "red", "mint", "dotted", "large", "left")


@pytest.mark.parametrize("softness", [0.0, 1.2])
def test_what_was_drawn_is_what_is_measured(softness: float) -> None:
    rng = random.Random(5)
    right = 0
    for _ in range(60):
        card = random_card(rng)
        right += measure(draw(card).filter(ImageFilter.GaussianBlur(softness))).agrees(card.named())
    assert right >= 59


def test_unnamed_traits_are_measured_too() -> None:
    same = {"background": "night", "place": "centre"}
    plain = random_card(random.Random(0), sticker=False, frame=False, shaded=False, tilt=0.0, **same)
    adorned = random_card(random.Random(0), sticker=True, frame=True, shaded=True, tilt=12.0, **same)
    before, after = measure(draw(plain)), measure(draw(adorned))
    assert before.frame < 0.3 < after.frame
    assert before.shading + 0.1 < after.shading
    assert before.tilt + 6 <= after.tilt
    assert before.sticker < 0.3 < after.sticker


@pytest.mark.parametrize("size", [(1, 1), (37, 500), (128, 128)])
def test_any_picture_can_be_measured(size: tuple[int, int]) -> None:
    found = measure(Image.new("RGB", size, (12, 200, 90)))
    assert found.subject in NAMED["subject"]


def test_one_card_draws_the_same_pixels_twice_at_any_size() -> None:
    assert draw(CARD).tobytes() == draw(CARD).tobytes()
    assert draw(CARD, 64).size == (64, 64)


def test_captions_can_be_read_back() -> None:
    rng = random.Random(1)
    for _ in range(200):
        card = random_card(rng)
        said = named_in(sample_caption(card, rng))
        assert 1 <= len(said) <= 4
        assert said.items() <= card.named().items()


def test_a_caption_by_hand() -> None:
    assert caption_of(CARD, NAMED) == "a large red star on the left, dotted mint background"
    assert caption({"colour": "orange"}) == "an orange shape"
    with pytest.raises(ValueError, match="Cannot write a caption"):
        caption({"subject": "dragon"})


def test_held_out_cards_are_never_trained_on() -> None:
    assert not any(held_out(card) for card in training_cards(random.Random(0), 100))
    assert all(held_out(card) for card in held_out_cards(0, 50))


def test_people_agree_with_their_own_utility_as_often_as_set() -> None:
    rng = random.Random(9)
    shown = [features(draw(random_card(rng))) for _ in range(150)]
    agreed = []
    for person in make_people(8, seed=4, cards=150):
        for _ in range(400):
            left, right = rng.sample(shown, 2)
            gap = person.utility(left) - person.utility(right)
            if gap:
                agreed.append((person.answer(left, right, rng) == "left") == (gap > 0))
    assert np.mean(agreed) == pytest.approx(AGREEMENT, abs=0.03)


def test_people_are_the_same_again_and_differ_from_each_other() -> None:
    first, again = make_people(2, seed=1, cards=40), make_people(3, seed=1, cards=40)
    assert np.array_equal(first[1].weights, again[1].weights)
    assert not np.array_equal(first[0].weights, first[1].weights)


def test_a_person_can_tie() -> None:
    person = Person("p", np.ones(len(features(draw(CARD)))), ties=0.5)
    assert person.answer(draw(CARD), draw(CARD), random.Random(0)) == "tie"


def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("palate.adapters.playground.training.loop._SAVE_EVERY", 0.0)

    def run(place, stop_at: int | None = None) -> torch.Tensor:
        model = torch.nn.Linear(4, 1)
        torch.nn.init.constant_(model.weight, 0.5)
        torch.nn.init.zeros_(model.bias)
        seen = 0

        def loss(rng: random.Random, generator: torch.Generator) -> torch.Tensor:
            nonlocal seen
            seen += 1
            if seen == stop_at:
                raise KeyboardInterrupt
            return (model(torch.randn(8, 4, generator=generator)) - rng.random()).square().mean()

        return train("m", model, loss, steps=6, learning_rate=0.1, folder=place).weight

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    with pytest.raises(KeyboardInterrupt):
        run(parts, stop_at=4)
    assert torch.load(parts / "m.pt", weights_only=True)["step"] == 3
    assert torch.equal(run(parts), run(whole))


def test_images_for_training_are_in_range() -> None:
    images = as_images([CARD])
    assert images.shape == (1, 3, 128, 128)
    assert -1 <= images.min() < images.max() <= 1


def test_untrained_folder_holds_a_whole_clip(tmp_path) -> None:
    made = make_untrained(tmp_path)
    state = load_clip_state(made)
    assert {"visual_projection.weight", "text_projection.weight", "logit_scale"} <= set(state)
    assert state["text_model.embeddings.token_embedding.weight"].shape == (49408, 96)
    assert clip_config(made)["projection_dim"] == 96


def test_a_missing_playground_says_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(folder, "__file__", str(tmp_path / "folder.py"))
    with pytest.raises(FileFormatError, match="Cannot load the playground"):
        folder.playground_folder()
