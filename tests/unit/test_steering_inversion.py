"""Portable embeddings: vectors that turn any prompt along a taste, and touch nothing else."""

from __future__ import annotations

import pytest
import steering_models as tiny
import torch
from palate.adapters.errors import CancelledError, EncoderMismatchError, ShapeError, SteeringError
from palate.adapters.steering import SteeringSettings, adapt_text_weights
from palate.adapters.steering.inversion import PortableEmbedding, TowerText, train_embedding
from palate.adapters.steering.portable import prompt_rows
from torch.nn import functional as F

WORDS = {",": 2, "red": 3, "star": 4, "blue": 5, "hill": 6, "on": 7, "a": 8}
PROMPTS = ["a red star", "a blue hill", "star on a hill", "blue star", "red hill", "a hill", "a star on blue", "red"]


def tokenize(text: str) -> torch.Tensor:
    """Words to ids, a chunk of 75 a row."""
    ids = [WORDS[word] for word in text.replace(",", " , ").split()]
    parts = [ids[i : i + 75] for i in range(0, len(ids), 75)] or [[]]
    return torch.tensor([[tiny.BOS, *part, tiny.EOS] + [tiny.EOS] * (75 - len(part)) for part in parts])


def tower(**other) -> TowerText:
    known = {"projection": tiny.encoder().text_projection, "encoder": tiny.encoder().identity} | other
    return TowerText(tiny.new_text_model(), tokenize, **known)


def train(towers=None, tastes=None, prompts=PROMPTS, **settings) -> PortableEmbedding:
    settings = {"vectors": 2, "steps": 12} | settings
    towers = {"clip_l": tower()} if towers is None else towers
    return train_embedding(towers, [tiny.taste()] if tastes is None else tastes, prompts, **settings)


def test_it_turns_prompts_along_the_taste_and_says_by_how_much() -> None:
    short, long = train(steps=1), train(steps=60, keep=0.1)
    assert short.effect["degrees"] < long.effect["degrees"]
    assert 10 < long.effect["degrees"] < 40  # aimed at 25
    assert 0.5 < long.effect["kept"] <= 1


def test_keeping_the_prompt_has_a_price_that_can_be_set() -> None:
    free, dear = train(steps=60, keep=0.0), train(steps=60, keep=20.0)
    assert dear.effect["kept"] > free.effect["kept"] and dear.effect["degrees"] < free.effect["degrees"]


def test_the_tower_keeps_its_bits_and_inference_tensors_will_do() -> None:
    with torch.inference_mode():
        model = tiny.new_text_model()
        before = [p.numpy().tobytes() for p in model.parameters()]
        found = train({"clip_l": TowerText(model, tokenize, tiny.encoder().text_projection, tiny.encoder().identity)})
        assert [p.numpy().tobytes() for p in model.parameters()] == before
    assert not found.vectors["clip_l"].is_inference() and not found.vectors["clip_l"].requires_grad
    assert torch.equal(found.vectors["clip_l"], train().vectors["clip_l"])


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = train(seed=3).vectors["clip_l"]
    torch.manual_seed(2)
    assert torch.equal(first, train(seed=3).vectors["clip_l"])
    assert not torch.equal(first, train(seed=4).vectors["clip_l"])


def test_vectors_stay_as_long_as_those_of_real_words() -> None:
    norms = train(steps=80, keep=0.0, turn=90.0).vectors["clip_l"].norm(dim=-1)
    table = tower().table.norm(dim=-1)
    assert norms.shape == (2,) and float(table.min()) <= float(norms.min()) and float(norms.max()) <= float(table.max())


def test_a_prompt_with_them_is_what_was_trained() -> None:
    """Degrees and kept, once more by hand: the whole row of 77 tokens through the model with the vectors put in."""
    found = train(prompts=["a red star"], vectors=3)
    model, matrix = tiny.new_text_model(), tiny.encoder().text_projection
    ids = tokenize("a red star,")
    ids[0, 5:8], ids[0, 8] = tiny.BOS, tiny.EOS
    inputs = model.get_input_embeddings()(ids).detach()
    inputs[0, 5:8] = found.vectors["clip_l"]
    hook = model.get_input_embeddings().register_forward_hook(lambda *_: inputs)
    with torch.no_grad():
        x = F.normalize(model(ids).last_hidden_state[0, 8] @ matrix.T, dim=-1)
        hook.remove()
        plain = F.normalize(model(tokenize("a red star")).pooler_output[0] @ matrix.T, dim=-1)
    way = SteeringSettings(method="pooled", steps=5)
    goal = adapt_text_weights(model, tokenize("a red star"), tiny.taste(), matrix, way, takes_pooled=True)
    way = F.normalize(F.normalize(goal.adapted_embedding[0], dim=-1) - plain * goal.movement().cosine, dim=-1)
    degrees = torch.rad2deg(torch.atan2(x @ way, x @ plain))
    assert float(degrees) == pytest.approx(found.effect["degrees"], abs=1.0)
    assert float((x @ plain) / (x - (x @ way) * way).norm()) == pytest.approx(found.effect["kept"], abs=0.02)


def test_of_two_towers_the_one_without_a_taste_is_left_as_it_was_as_far_as_can_be() -> None:
    wide = TowerText(tiny.new_text_model(), tokenize)
    found = train({"clip_l": wide, "clip_g": tower()}, steps=60)
    assert set(found.vectors) == {"clip_l", "clip_g"} and set(found.encoders) == {"clip_g"} and found.base == "sdxl"

    def moved(vectors: torch.Tensor) -> float:
        rows = prompt_rows(tokenize, PROMPTS, 2)
        table = wide.table[rows.ids]
        table[torch.arange(len(PROMPTS))[:, None], rows.first[:, None] + torch.arange(2)] = vectors
        model = tiny.new_text_model()
        model.get_input_embeddings().register_forward_hook(lambda *_: table)
        with torch.no_grad():
            x = model(rows.ids).last_hidden_state[torch.arange(len(PROMPTS)), rows.end]
            plain = torch.cat([tiny.new_text_model()(tokenize(p)).pooler_output for p in PROMPTS])
        return float(F.cosine_similarity(x, plain).mean())

    assert moved(found.vectors["clip_l"]) > moved(found.vectors["clip_g"])


def test_each_taste_finds_its_tower() -> None:
    other = tower(encoder="another")
    tastes = [tiny.taste(identity="another", seed=5), tiny.taste()]
    found = train({"clip_l": tower(), "clip_g": other}, tastes)
    assert found.encoders == {"clip_l": tiny.encoder().identity, "clip_g": "another"}


def test_a_taste_from_a_file_works_without_a_projection() -> None:
    taste = tiny.PlainTaste(tiny.drawn(tiny.JOINT), "elsewhere", text_weights=tiny.drawn(tiny.WIDTH, seed=3))
    found = train({"clip_l": TowerText(tiny.new_text_model(), tokenize)}, [taste], steps=40, keep=0.1)
    assert found.effect["degrees"] > 5


def test_progress_is_told_and_cancel_is_heard() -> None:
    told: list[tuple[int, int]] = []
    train(
        {"clip_l": TowerText(tiny.new_text_model(), tokenize), "clip_g": tower()},
        steps=2,
        on_step=lambda *s: told.append(s),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(CancelledError, match="after 1 of 12"):
        train(on_step=lambda *s: told.append(s), cancelled=lambda: len(told) > 4)


def test_rows_hold_the_prompt_a_comma_room_for_the_vectors_and_the_end() -> None:
    rows = prompt_rows(tokenize, ["a red star", "", "red,"], 2)
    end, start = tiny.EOS, tiny.BOS
    assert rows.ids.tolist() == [
        [start, 8, 3, 4, 2, start, start, end],
        [start, start, start, end, end, end, end, end],
        [start, 3, 2, start, start, end, end, end],
    ]
    assert rows.first.tolist() == [5, 1, 3] and rows.end.tolist() == [7, 3, 5]


@pytest.mark.parametrize("length", [72, 73, 75, 2000])
def test_a_long_prompt_is_cut_and_the_vectors_stay_in(length: int) -> None:
    rows = prompt_rows(tokenize, ["star " * length], 4)
    assert rows.ids.shape[1] <= 77 and rows.end[0] == rows.first[0] + 4
    assert rows.ids[0, rows.first[0] - 1] == WORDS[","] and rows.ids[0, rows.end[0]] == tiny.EOS


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vectors": 0}, "0 vectors"),
        ({"vectors": 99}, "99 vectors"),
        ({"steps": 0}, "0 steps"),
        ({"turn": 0.0}, "turn 0"),
        ({"turn": 91.0}, "turn 91"),
        ({"keep": -1.0}, "keep -1"),
        ({"prompts": []}, "no prompts"),
        ({"tastes": []}, "no taste"),
        ({"towers": {}}, "no text encoder"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, said: str) -> None:
    with pytest.raises(SteeringError, match=said):
        train(**settings)


def test_a_taste_of_another_encoder_is_refused() -> None:
    with pytest.raises(EncoderMismatchError, match="tiny"):
        train(tastes=[tiny.taste(identity="stranger")])
    with pytest.raises(EncoderMismatchError, match="still free"):
        train(tastes=[tiny.taste(), tiny.taste(seed=7)])


def test_a_projection_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="projection"):
        train({"clip_l": tower(projection=torch.ones(3, tiny.WIDTH))})


def test_an_empty_taste_is_refused() -> None:
    taste = tiny.PlainTaste(torch.zeros(tiny.JOINT), tiny.encoder().identity)
    with pytest.raises(SteeringError, match="all zeros"):
        train(tastes=[taste])
