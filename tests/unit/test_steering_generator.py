"""A diffusers pipeline with a taste: the same bits as diffusers where nothing is steered, seeds, caches, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
import steering_models as tiny
import torch
from palate.adapters.errors import CancelledError, EncoderMismatchError, SteeringError
from palate.adapters.steering import Generator, PromptTower, SteeringSettings, TextConditioner
from palate.adapters.steering import generator as generator_module

PROMPT = "a red star"
LONG = " ".join(["a red star on a blue hill"] * 20)
SHORT = {"steps": 2, "guidance": 2.0}


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Generator:
    return Generator(tiny.write_pipeline(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def fresh(generator: Generator):
    """The same pipeline with empty caches."""
    generator._pictures.clear()
    generator.conditioner._kept.clear()
    return generator


def pixels(images) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_plain_conditioning_is_that_of_diffusers(generator: Generator) -> None:
    theirs, negative = generator._pipeline.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt="blue")
    assert torch.equal(generator.conditioner.plain(PROMPT).tokens, theirs)
    assert torch.equal(generator.conditioner.negative("blue").tokens, negative)
    assert generator.family == "sd15" and generator.conditioner.plain(PROMPT).pooled is None


def test_long_prompts_become_chunks_with_their_own_ends(generator: Generator) -> None:
    text = generator.conditioner
    ids = text.towers[0].token_ids(LONG)
    assert ids.shape == (2, 77) and ids[:, 0].tolist() == [tiny.BOS] * 2
    words = text.towers[0].tokenizer(LONG, add_special_tokens=False)["input_ids"]
    assert [i for row in ids.tolist() for i in row if i not in (tiny.BOS, tiny.EOS)] == words
    assert text.plain(LONG).tokens.shape == (1, 154, tiny.WIDTH)
    assert torch.equal(*text.plain("", 2).tokens.split(77, dim=1))


def test_clip_skip_takes_an_earlier_layer(generator: Generator) -> None:
    text = generator.conditioner.towers[0]
    skipping = TextConditioner(text, clip_skip=1)
    with torch.no_grad():
        states = text.text_encoder(text.token_ids(PROMPT), output_hidden_states=True).hidden_states
    norm = next(m for n, m in text.text_encoder.named_modules() if n.endswith("final_layer_norm"))
    assert torch.equal(skipping.plain(PROMPT).tokens, norm(states[-2]).detach())
    moved, _ = skipping.steered(PROMPT, tiny.taste(identity=text.encoder.identity))
    assert not torch.equal(moved.tokens, skipping.plain(PROMPT).tokens)


def test_pictures_of_another_layer_are_not_those_from_memory(fresh: Generator) -> None:
    plain = fresh.images(PROMPT, [1], steps=1)[0]
    fresh.conditioner.clip_skip = 1
    assert fresh.images(PROMPT, [1], steps=1)[0].tobytes() != plain.tobytes()
    fresh.conditioner.clip_skip = 0
    assert fresh.images(PROMPT, [1], steps=1)[0].tobytes() == plain.tobytes()


def test_few_large_pictures_are_kept_as_many_small_ones(fresh: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_module, "KEPT_PIXELS", 3 * 16 * 16)
    steps: list[int] = []
    note = lambda done, total: steps.append(done)  # noqa: E731
    fresh.images(PROMPT, [1, 2, 3, 4], steps=1, size=16)
    fresh.images(PROMPT, [2, 3, 4], steps=1, size=16, on_step=note)
    assert not steps
    fresh.images(PROMPT, [1], steps=1, size=16, on_step=note)
    assert steps


def test_steering_moves_the_prompt_and_another_strength_costs_no_step(fresh: Generator) -> None:
    taste, steps = tiny.taste(identity=fresh.encoder.identity), []
    note = lambda done, total: steps.append(done)  # noqa: E731
    moved, movement = fresh.conditioner.steered(PROMPT, taste, on_step=note)
    assert steps == [1, 2, 3, 4, 5] and movement.objective_after < movement.objective_before
    half, weaker = fresh.conditioner.steered(PROMPT, taste, SteeringSettings(strength=0.5), on_step=note)
    assert len(steps) == 5 and 0 < weaker.token_change < movement.token_change
    plain = fresh.conditioner.plain(PROMPT).tokens
    assert torch.allclose(half.tokens, (plain + moved.tokens) / 2, atol=1e-6)
    assert torch.equal(fresh.conditioner.steered(PROMPT, taste, SteeringSettings(strength=0.0))[0].tokens, plain)


def test_another_taste_is_not_taken_from_the_cache(fresh: Generator) -> None:
    first, second = (tiny.taste(seed=seed, identity=fresh.encoder.identity) for seed in (1, 7))
    moved = [fresh.conditioner.steered(PROMPT, taste)[0].tokens for taste in (first, second)]
    assert not torch.equal(*moved)


def test_plain_pictures_are_those_of_diffusers(fresh: Generator) -> None:
    ours = fresh.images(PROMPT, [5], **SHORT)
    theirs = fresh._pipeline(
        PROMPT,
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=2,
        guidance_scale=2.0,
        width=16,
        height=16,
    ).images
    assert pixels(ours) == pixels(theirs) and ours[0].size == (16, 16) and ours[0].mode == "RGB"


def test_a_seed_is_the_same_picture_whatever_comes_with_it(fresh: Generator) -> None:
    together = pixels(fresh.images(PROMPT, [3, 4, 3], **SHORT))
    fresh._pictures.clear()
    alone = pixels(fresh.images(PROMPT, [4], **SHORT))
    assert together[1] == alone[0] and together[0] == together[2] != together[1]


def test_strength_zero_is_the_plain_picture_and_strength_one_is_not(fresh: Generator) -> None:
    taste = tiny.taste(identity=fresh.encoder.identity)
    plain = pixels(fresh.images(PROMPT, [1], **SHORT))
    assert pixels(fresh.images(PROMPT, [1], taste, strength=0.0, **SHORT)) == plain
    assert pixels(fresh.images(PROMPT, [1], taste, **SHORT)) != plain


def test_pictures_are_kept_and_handed_out_as_copies(fresh: Generator) -> None:
    steps: list[tuple[int, int]] = []
    note = lambda done, total: steps.append((done, total))  # noqa: E731
    first = fresh.images(PROMPT, [1, 2], on_step=note, **SHORT)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    first[0].putpixel((0, 0), (1, 2, 3))
    again = fresh.images(PROMPT, [2, 1], on_step=note, **SHORT)
    assert len(steps) == 4 and pixels(again)[0] == pixels(first)[1] and pixels(again)[1] != pixels(first)[0]


def test_progress_counts_steering_and_pictures_together(fresh: Generator) -> None:
    taste, seen = tiny.taste(identity=fresh.encoder.identity), []
    note = lambda done, total: seen.append((done, total))  # noqa: E731
    fresh.images(PROMPT, [1, 2], taste, on_step=note, **SHORT)
    assert seen == [(done, 9) for done in range(1, 10)]
    seen.clear()
    fresh.images(PROMPT, [1], taste, strength=0.5, on_step=note, **SHORT)  # steered before
    assert seen == [(6, 7), (7, 7)]


def test_prompts_of_unequal_length_generate(fresh: Generator) -> None:
    taste = tiny.taste(identity=fresh.encoder.identity)
    for prompt, negative in ((LONG, "blue"), (PROMPT, LONG)):
        (image,) = fresh.images(prompt, [1], taste, negative_prompt=negative, steps=1)
        assert np.asarray(image).shape == (16, 16, 3)


def test_without_guidance_and_with_another_shape(fresh: Generator) -> None:
    (image,) = fresh.images(PROMPT, [1], steps=1, guidance=1.0, size=(24, 16))
    assert image.size == (24, 16)


def test_cancelling_stops_and_keeps_the_generator_usable(fresh: Generator) -> None:
    taste = tiny.taste(identity=fresh.encoder.identity)
    with pytest.raises(CancelledError, match="steps of steering"):
        fresh.images(PROMPT, [1], taste, cancelled=lambda: True, **SHORT)
    with pytest.raises(CancelledError, match="Cancelled after 1 of 2 steps"):
        fresh.images(PROMPT, [1], cancelled=lambda: True, **SHORT)
    assert len(fresh.images(PROMPT, [1], **SHORT)) == 1


def test_tastes_of_another_encoder_are_refused_by_both_names(fresh: Generator) -> None:
    stranger = tiny.taste(identity="f" * 64)
    with pytest.raises(EncoderMismatchError, match=r"learned with tiny \(ffffffffffff\); expected tiny"):
        fresh.images(PROMPT, [1], stranger, **SHORT)
    with pytest.raises(EncoderMismatchError, match="fit the taste again"):
        fresh.movement(PROMPT, stranger)


def test_movement_is_there_without_generating_again(fresh: Generator) -> None:
    taste = tiny.taste(identity=fresh.encoder.identity)
    near, far = (fresh.movement(PROMPT, taste, strength) for strength in (0.5, 1.0))
    assert 0 < near.degrees < far.degrees <= 26 and near.strength == 0.5


def test_a_generator_without_encoder_says_what_fits(generator: Generator) -> None:
    tower = generator.conditioner.towers[0]
    bare = TextConditioner(PromptTower("clip_l", tower.tokenizer, tower.text_encoder))
    with pytest.raises(SteeringError, match=r"no encoder was given.*open_clip:ViT-L-14/openai"):
        bare.steered(PROMPT, tiny.taste(identity="x"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "0 steps; expected 1 or more"),
        ({"size": 17}, "17x17 pixels; expected multiples of 8"),
        ({"size": (0, 16)}, "0x16 pixels; expected multiples of 8"),
        ({"seeds": [3, -1]}, "seed -1; expected 0 to 2^64 - 1"),
        ({"seeds": [2**64]}, f"seed {2**64}; expected 0 to 2^64 - 1"),
        ({"guidance": float("nan")}, "guidance nan; expected a number"),
        ({"steps": -2, "size": 4}, "-2 steps; expected 1 or more; 4x4 pixels; expected multiples of 8"),
    ],
)
def test_settings_that_make_no_picture_are_named_alone(fresh: Generator, wrong: dict, said: str) -> None:
    with pytest.raises(SteeringError, match=f"^Cannot generate: {re.escape(said)}. Change that.$"):
        fresh.images(**({"prompt": PROMPT, "seeds": [1]} | wrong))


def test_folders_that_are_no_pipeline_are_named(tmp_path) -> None:
    with pytest.raises(SteeringError, match="no such folder"):
        Generator(tmp_path / "nothing")
    with pytest.raises(SteeringError, match="no such folder"):
        Generator("x" * 4000)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SteeringError, match="Cannot load the model 'empty'"):
        Generator(tmp_path / "empty")
