"""What the playground's PPD is trained on, and that the training goes from cards to weights."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from palate.adapters.files.ppd_file import load_ppd
from palate.adapters.playground.folder import playground_folder
from palate.adapters.playground.people import FEATURES, make_people
from palate.adapters.playground.training import ppd as ppd_training
from palate.adapters.playground.training import ppd_cards, ppd_changes, ppd_encoder, ppd_taught
from palate.adapters.playground.training.ppd_cards import (
    BLOCKS,
    VIEWS,
    Cards,
    _views,
    answers_of,
    people_of,
    simpler,
    utilities,
)
from palate.adapters.playground.training.ppd_changes import Changes, changed_cards
from palate.adapters.playground.training.ppd_encoder import Questions, Reader, new_encoder, train_encoder
from palate.adapters.playground.training.ppd_taught import moved
from palate.adapters.playground.world import NAMED, UNNAMED, held_out, random_card
from palate.adapters.ppd.layers import layers_of, width_of
from palate.adapters.steering import Generator


def _cards(captions: int = 20, seed: int = 0) -> Cards:
    generator = torch.Generator().manual_seed(seed)
    measured = torch.rand(captions, VIEWS, len(FEATURES), generator=generator)
    vectors = torch.nn.functional.normalize(measured - 0.5, dim=-1)
    tokens = torch.arange(captions + 1.0)[:, None, None]
    latents = torch.randn(captions, VIEWS, 1, 2, 2, generator=generator)
    return Cards(tuple(map(str, range(captions))), latents, vectors, measured, tokens)


@pytest.mark.parametrize("seed", range(5))
def test_alike_cards_differ_in_one_property_that_the_caption_leaves_open(seed):
    rng = random.Random(seed)
    card = next(card for card in iter(lambda: random_card(rng), None) if not held_out(card))
    first, *others = _views(card, ["subject", "colour"], "alike", rng)
    assert first == card and len(others) == VIEWS - 1
    for other in others:
        changed = [field.name for field in fields(card) if getattr(card, field.name) != getattr(other, field.name)]
        assert len(changed) == 1 and changed[0] not in ("subject", "colour") and not held_out(other)


def test_cards_of_a_caption_share_what_it_names():
    rng = random.Random(0)
    card = next(card for card in iter(lambda: random_card(rng), None) if not held_out(card))
    views = _views(card, ["subject", "place"], "any", rng)
    assert {(view.subject, view.place) for view in views} == {(card.subject, card.place)}
    assert len({view.colour for view in views}) > 1 and not any(held_out(view) for view in views)


def test_simpler_people_care_for_fewer_properties_and_nothing_new():
    person = make_people(2, 0, cards=8)[1]
    simple = simpler(person, 2, random.Random(0))
    assert len({BLOCKS[k] for k in np.flatnonzero(simple.weights)}) == 2 and simple.together == ()
    assert all(new in (0.0, old) for new, old in zip(simple.weights, person.weights, strict=True))
    assert simpler(person, 5, random.Random(0)) is person


def test_utilities_of_many_are_those_of_each():
    people, x = make_people(4, 0, cards=8), np.random.default_rng(0).random((7, len(FEATURES)))
    each = [[person.utility(row) for row in x] for person in people]
    assert utilities(people, x) == pytest.approx(np.array(each))


def test_what_is_trained_on_is_sure_and_what_people_are_known_by_is_not():
    cards, others = _cards(), _cards(seed=1)
    people = people_of(12, 3, cards, (1, 5))
    data = answers_of(people, cards, others, 6, 40, seed=0)
    assert data.people == 12 and len(data) == 72
    right = {True: [], False: []}
    for person in range(12):
        assert set(data.pairs_of(person)).isdisjoint(range(len(data)))
        for index in [*range(person * 6, person * 6 + 6), *data.pairs_of(person)]:
            trained = index < len(data)
            seen, owner, (caption, chosen, rejected) = data._row(index)
            assert seen is (cards if trained else others) and owner == person
            x = seen.measured[caption].double().numpy()
            right[trained].append(people[person].utility(x[chosen]) > people[person].utility(x[rejected]))
    assert all(right[True]) and 0.8 < np.mean(right[False]) < 0.93


def test_a_pair_has_the_latents_and_vectors_of_its_cards():
    cards = _cards()
    data = answers_of(people_of(3, 0, cards), cards, cards, 2, 3, seed=0)
    caption, chosen, rejected = data.asked[1, 0]
    pair = data.pair(2)
    assert (pair.prompt, pair.person) == (caption, 1) and torch.equal(pair.chosen, cards.latents[caption, chosen])
    assert torch.equal(data.vectors(2)[1], cards.vectors[caption, rejected])
    assert torch.equal(data.tokens(pair.prompt)[0], cards.tokens[caption]) and data.tokens(-1)[0].item() == 20.0


def test_an_encoder_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(ppd_encoder, "BATCH", 4)
    cards = _cards(4)
    questions = Questions(people_of(6, 0, cards), cards)
    whole = train_encoder(new_encoder(12, len(FEATURES)), questions, tmp_path, steps=2)
    again = train_encoder(new_encoder(12, len(FEATURES)), questions, tmp_path, steps=2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert not torch.equal(whole.encoder.start, new_encoder(12, len(FEATURES)).start)


def test_a_blend_of_users_likes_what_its_weights_say():
    reader, generator = Reader(new_encoder(12, 8)), torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 1, 4, 12, generator=generator)
    measured = torch.rand(1, 5, len(FEATURES), generator=generator)
    blended = reader(0.3 * one + 0.7 * other, measured)
    assert torch.allclose(blended, 0.3 * reader(one, measured) + 0.7 * reader(other, measured), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_each_changed_card_differs_in_the_property_that_is_said(seed):
    rng = random.Random(seed)
    card = next(card for card in iter(lambda: random_card(rng), None) if not held_out(card))
    (first, nothing), *others = changed_cards(card, ["subject", "colour"], rng)
    assert first == card and nothing == -1 and 8 < len(others) < ppd_changes.VIEWS
    for other, place in others:
        changed = [field.name for field in fields(card) if getattr(card, field.name) != getattr(other, field.name)]
        assert changed == [(*NAMED, *UNNAMED)[place]] and changed[0] not in ("subject", "colour")
        assert not held_out(other)


def _changes(places: list[int]) -> Changes:
    latents = torch.randn(1, len(places), 1, 2, 2, generator=torch.Generator().manual_seed(3))
    return Changes(("a star",), latents, torch.zeros(1, len(places), 1), torch.tensor([places]), torch.zeros(1, 1))


def test_users_move_a_picture_to_what_they_like_and_nowhere_else():
    changes = _changes([-1, 2, 2, 5, -1])
    noisy, kept, rows = torch.randn(1, 1, 2, 2), torch.tensor([0.01]), torch.tensor([0])
    likes = torch.zeros(1, 4, 5)
    likes[0, 1, 2], likes[0, 2, 3] = 50.0, 50.0
    likes[0, 3, 2], likes[0, 3, 3] = 50.0, 50.0
    found = -moved(changes, rows, noisy, kept, likes)[0] * 0.99**0.5  # of what the picture is
    assert torch.equal(found[0], torch.zeros(1, 2, 2)), "who likes all alike moves nothing"
    assert torch.allclose(found[1] + found[2], found[3], atol=1e-5), "properties are independent"
    cards = changes.latents[0]
    shares = torch.stack([-((noisy[0] - 0.1 * cards[k]) ** 2).sum() / 1.98 for k in (0, 3)]).softmax(0)
    assert torch.allclose(found[2], (cards[3] - cards[0]) * (1 - shares[1]), atol=1e-4)


def test_what_can_be_seen_already_is_not_moved():
    changes, rows = _changes([-1, 2, 5]), torch.tensor([0])
    kept, likes = torch.tensor([0.9999]), torch.tensor([[[0.0, 3.0, 3.0]]])
    assert moved(changes, rows, changes.latents[:, 0], kept, likes).abs().max() < 1e-6


def test_the_training_goes_from_cards_to_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(ppd_training, "ENCODER_STEPS", 1)
    monkeypatch.setattr(ppd_training, "TAUGHT_STEPS", 1)
    monkeypatch.setattr(ppd_training, "CHANGED", 1)
    monkeypatch.setattr(ppd_training, "CHANGED_SHARDS", 1)
    monkeypatch.setattr(ppd_taught, "CARDS", 2)
    monkeypatch.setattr(ppd_taught, "ASKED", 4)
    monkeypatch.setattr(ppd_taught, "EVEN", 0)
    monkeypatch.setattr(ppd_cards, "VIEWS", 3)
    monkeypatch.setattr(ppd_changes, "VIEWS", 5)
    monkeypatch.setattr(ppd_encoder, "BATCH", 4)
    settings = replace(ppd_training.SETTINGS, steps=1, batch=1, warm_up=0.0)
    ppd = ppd_training.train_playground_ppd(tmp_path, settings, people=8, captions=1, shards=1)
    assert any(bool(value.weight.any()) for value in ppd.attention.values)
    assert ppd.base == "playground" and len(ppd.image_encoder) == 64
    assert {"ppd-changes-0-1.pt", "ppd-taught.pt"} <= {file.name for file in tmp_path.iterdir()}
    size = sum(weight.numel() for weight in ppd.parameters()) * 2
    assert size < 800_000  # bytes in half precision: all of the playground's files together stay under 25 MB


def test_the_playgrounds_own_ppd_fits_its_models_and_does_something_for_a_person():
    generator = Generator("playground")
    ppd = load_ppd(playground_folder() / "ppd.safetensors", generator.encoder)
    ppd.fits(layers_of(generator._pipeline.unet), width_of(generator._pipeline.unet))
    assert ppd.base == "playground" and ppd.encoder.kind == "pairs"
    sides = torch.nn.functional.normalize(torch.randn(2, 4, 96, generator=torch.Generator().manual_seed(0)), dim=-1)
    user = ppd.user(sides[0], sides[1])
    assert user.tokens.shape == (ppd.encoder.tokens, 96) and not torch.equal(
        user.tokens, ppd.user(*sides.flip(0)).tokens
    )
    files = [file for file in playground_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 25_000_000
