"""SDXL's two text encoders in diffusers: diffusers' bits where nothing is steered, either or both steered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sdxl_models as xl
import torch
from palate.adapters.errors import EncoderMismatchError, SteeringError
from palate.adapters.steering import METHODS, Generator, SteeringSettings, TextConditioner

tiny = xl.tiny

PROMPT = "a red star"
LONG = " ".join(["a red star on a blue hill"] * 20)
SHORT = {"steps": 2, "guidance": 2.0}


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Generator:
    folder = xl.write_sdxl(tmp_path_factory.mktemp("models") / "tiny xl")
    return Generator(folder, encoder=(xl.large_encoder(), tiny.encoder()))


@pytest.fixture
def fresh(generator: Generator):
    generator._pictures.clear()
    generator.conditioner._kept.clear()
    return generator


def bits(*conditioned) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for one in conditioned for tensor in (one.tokens, one.pooled)]


def apart(conditioning) -> tuple[torch.Tensor, torch.Tensor]:
    return conditioning.tokens[..., : tiny.WIDTH], conditioning.tokens[..., tiny.WIDTH :]


def test_plain_conditioning_is_that_of_diffusers(generator: Generator) -> None:
    text = generator.conditioner
    theirs = generator._pipeline.encode_prompt(PROMPT, device="cpu", negative_prompt="blue")
    ours = text.plain(PROMPT), text.negative("blue")
    for found, wanted in zip((ours[0].tokens, ours[1].tokens, ours[0].pooled, ours[1].pooled), theirs, strict=True):
        assert torch.equal(found, wanted)
    assert generator.family == "sdxl" and sorted(generator.encoders) == ["clip_g", "clip_l"]


def test_without_a_negative_prompt_it_is_zeros_as_sdxl_was_trained(generator: Generator) -> None:
    _, negative, _, pooled = generator._pipeline.encode_prompt(PROMPT, device="cpu")
    ours = generator.conditioner.negative("")
    assert (
        torch.equal(ours.tokens, negative) and torch.equal(ours.pooled, pooled) and float(ours.tokens.abs().sum()) == 0
    )
    assert float(TextConditioner(generator.conditioner.towers).negative("").tokens.abs().sum()) > 0


def test_the_second_tokenizer_fills_up_with_its_own_token(generator: Generator) -> None:
    first, second = (tower.token_ids(PROMPT)[0] for tower in generator.conditioner.towers)
    assert torch.equal(first[:5], second[:5]) and first[5:].unique().tolist() == [tiny.EOS]
    assert second[5:].unique().tolist() == [tiny.vocabulary()["!"]]


@pytest.mark.parametrize("skip", [0, 1])
def test_clip_skip_counts_from_the_penultimate_layer(generator: Generator, skip: int) -> None:
    wanted, _, pooled, _ = generator._pipeline.encode_prompt(PROMPT, device="cpu", clip_skip=skip)
    ours = TextConditioner(generator.conditioner.towers, clip_skip=skip).plain(PROMPT)
    assert torch.equal(ours.tokens, wanted) and torch.equal(ours.pooled, pooled)


def test_long_prompts_are_pooled_from_their_first_chunk(generator: Generator) -> None:
    plain = generator.conditioner.plain(LONG)
    tower = generator.conditioner.towers[1]
    first = tower.text_encoder(tower.token_ids(LONG)[:1]).text_embeds
    assert plain.tokens.shape == (1, 154, tiny.WIDTH + xl.WIDE)
    assert torch.allclose(plain.pooled, first, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_strength_zero_keeps_all_bits(fresh: Generator, method: str) -> None:
    settings = SteeringSettings(method=method, strength=0.0)
    moved, movement = fresh.conditioner.steered(PROMPT, xl.large_taste(), settings)
    assert bits(moved) == bits(fresh.conditioner.plain(PROMPT)) and movement.degrees == 0.0


@pytest.mark.parametrize("method", ["encoder", "token_input", "eos_token"])
def test_a_taste_moves_the_tower_that_its_encoder_belongs_to(fresh: Generator, method: str) -> None:
    text, settings = fresh.conditioner, SteeringSettings(method=method, steps=2)
    plain = text.plain(PROMPT)
    small = text.steered(PROMPT, tiny.taste(), settings)[0]
    large = text.steered(PROMPT, xl.large_taste(), settings)[0]
    both, movement = text.steered(PROMPT, [xl.large_taste(), tiny.taste()], settings)
    assert torch.equal(small.pooled, plain.pooled) and torch.equal(apart(small)[1], apart(plain)[1])
    assert torch.equal(apart(large)[0], apart(plain)[0]) and not torch.equal(large.pooled, plain.pooled)
    assert torch.equal(apart(both)[0], apart(small)[0]) and torch.equal(apart(both)[1], apart(large)[1])
    assert torch.equal(both.pooled, large.pooled) and movement.token_change > 0 and 10 < movement.degrees < 30


def test_another_strength_runs_no_encoder(fresh: Generator, monkeypatch) -> None:
    text = fresh.conditioner
    first = text.steered(PROMPT, tiny.taste(), SteeringSettings(steps=1))[0]
    for tower in text.towers:
        monkeypatch.setattr(tower.text_encoder, "forward", pytest.fail)
    half, movement = text.steered(PROMPT, tiny.taste(), SteeringSettings(steps=1, strength=0.5))
    assert movement.token_change > 0 and not torch.equal(half.tokens, first.tokens)


def test_pooled_moves_the_vector_alone_at_its_length(fresh: Generator) -> None:
    text, settings = fresh.conditioner, SteeringSettings(method="pooled")
    plain, (moved, movement) = text.plain(PROMPT), text.steered(PROMPT, [tiny.taste(), xl.large_taste()], settings)
    assert torch.equal(moved.tokens, plain.tokens) and not torch.equal(moved.pooled, plain.pooled)
    assert float(moved.pooled.norm()) == pytest.approx(float(plain.pooled.norm()), rel=1e-5)
    turned = torch.nn.functional.cosine_similarity(moved.pooled, plain.pooled)
    assert (
        torch.rad2deg(turned.acos()).item() == pytest.approx(movement.degrees, abs=0.05) and movement.token_change == 0
    )


def test_the_pooled_vector_follows_the_steered_tokens(fresh: Generator) -> None:
    """What the moved words make of the second tower, encoded by it, is the vector that goes along."""
    text, settings = fresh.conditioner, SteeringSettings(steps=2)
    moved = text.steered(PROMPT, xl.large_taste(), settings)[0]
    tower = text.towers[1]
    last = tower.module.encoder.layers[-1]
    mask = torch.full((77, 77), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        out = last(apart(moved)[1].contiguous(), mask)
        state = tower.module.final_layer_norm(out[0] if isinstance(out, tuple) else out)
        wanted = tower.text_encoder.text_projection(state[:, 4])
    assert torch.allclose(moved.pooled, wanted, atol=1e-4)


def test_pooled_without_a_taste_for_the_larger_tower_says_so(fresh: Generator) -> None:
    with pytest.raises(SteeringError, match=r"only a taste for the smaller tower.*ViT-bigG-14"):
        fresh.conditioner.steered(PROMPT, tiny.taste(), SteeringSettings(method="pooled"))


def test_two_tastes_for_one_tower_are_to_be_blended(fresh: Generator) -> None:
    with pytest.raises(SteeringError, match=r"one text encoder \(clip_l\).*Blend"):
        fresh.images(PROMPT, [1], [tiny.taste(), tiny.taste(seed=9)], **SHORT)


def test_pictures_follow_either_taste_or_both(fresh: Generator) -> None:
    tastes = (None, tiny.taste(), xl.large_taste(), [tiny.taste(), xl.large_taste()])
    made = [fresh.images(PROMPT, [5], taste, **SHORT)[0].tobytes() for taste in tastes]
    assert len(set(made)) == 4
    assert fresh.images(PROMPT, [5], tastes[3], strength=0.0, **SHORT)[0].tobytes() == made[0]
    swapped = fresh.images(PROMPT, [5], [xl.large_taste(), tiny.taste()], on_step=pytest.fail, **SHORT)
    assert swapped[0].tobytes() == made[3]  # from memory: the order of tastes doesn't matter


def test_plain_pictures_are_those_of_diffusers(fresh: Generator) -> None:
    theirs = fresh._pipeline(
        PROMPT,
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=2,
        guidance_scale=2.0,
        width=16,
        height=16,
    ).images
    assert fresh.images(PROMPT, [5], **SHORT)[0].tobytes() == theirs[0].tobytes()


def test_progress_counts_both_towers(fresh: Generator) -> None:
    seen: list[tuple[int, int]] = []
    settings = SteeringSettings(steps=2)
    note = lambda done, total: seen.append((done, total))  # noqa: E731
    fresh.images(PROMPT, [1], [tiny.taste(), xl.large_taste()], settings=settings, on_step=note, **SHORT)
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(("prompt", "negative"), [(LONG, "blue"), (PROMPT, LONG), ("", ""), ("", LONG)])
def test_prompts_of_unequal_length_generate(fresh: Generator, prompt: str, negative: str) -> None:
    (image,) = fresh.images(prompt, [1], xl.large_taste(), negative_prompt=negative, steps=1)
    assert image.size == (16, 16)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a " * 2000,
        "🌻🐈\u200d⬛ é 日本",
        "((a)) [red] {star} <lora:x:1>",
        "(star:1.2), [a:b:0.5]",
        "\n\t\0",
        "<|endoftext|> a",
    ],
    ids=["none", "2000", "emoji", "brackets", "weights", "blanks", "end"],
)
def test_any_prompt_is_text_and_can_be_steered(fresh: Generator, prompt: str) -> None:
    settings = SteeringSettings(steps=1)
    plain, (moved, movement) = (
        fresh.conditioner.plain(prompt),
        fresh.conditioner.steered(prompt, [tiny.taste(), xl.large_taste()], settings),
    )
    assert moved.tokens.shape == plain.tokens.shape and moved.tokens.shape[1] == 77 * fresh.conditioner.chunks(prompt)
    assert moved.tokens.isfinite().all() and moved.pooled.isfinite().all() and movement.degrees > 0


@pytest.mark.parametrize("strength", [-5.0, 100.0, float("nan")])
def test_strengths_that_make_no_sense_are_named(fresh: Generator, strength: float) -> None:
    with pytest.raises(SteeringError, match=r"strength .*; expected 0 to 2"):
        fresh.images(PROMPT, [1], xl.large_taste(), strength=strength, **SHORT)


def test_a_taste_from_a_file_steers_without_an_encoder(fresh: Generator) -> None:
    """It holds w and W^T w: the small tower is moved along the latter, the large one has its own projection."""
    text = TextConditioner([replace_encoder(tower) for tower in fresh.conditioner.towers])
    small = replace(tiny.taste(0), text_weights=tiny.encoder().text_projection.T @ tiny.taste(0).weights)
    large = xl.large_taste(0, text_weights=xl.large_encoder().text_projection.T @ xl.large_taste(0).weights)
    settings = SteeringSettings(steps=2)
    moved, movement = text.steered(PROMPT, [small, large], settings)
    assert movement.objective_after < movement.objective_before and 10 < movement.degrees < 30
    with_encoder = fresh.conditioner.steered(PROMPT, large, settings)[0]
    alone = text.steered(PROMPT, large, settings)[0]
    assert torch.equal(alone.pooled, moved.pooled) and torch.allclose(alone.pooled, with_encoder.pooled, atol=1e-4)
    with pytest.raises(SteeringError, match="no encoder was given"):
        text.steered(PROMPT, tiny.taste())


def test_strangers_and_wrong_encoders_are_named_with_what_fits(fresh: Generator, tmp_path: Path) -> None:
    with pytest.raises(
        EncoderMismatchError, match=r"learned with tiny \(ffffffffffff\); expected tiny .* or tiny large"
    ):
        fresh.images(PROMPT, [1], tiny.taste(identity="f" * 64), **SHORT)
    one = TextConditioner([fresh.conditioner.towers[0], replace_encoder(fresh.conditioner.towers[1])])
    with pytest.raises(EncoderMismatchError, match=r"its other text encoder goes with the CLIP that .* width 48"):
        one.check(tiny.taste(identity="f" * 64))
    with pytest.raises(EncoderMismatchError, match=r"32 wide; expected .*clip_l is 32 wide and clip_g is 48 wide"):
        Generator(xl.write_sdxl(tmp_path / "xl"), encoder=[tiny.encoder(), tiny.encoder()])


def replace_encoder(tower):
    from palate.adapters.steering import PromptTower

    return PromptTower(tower.name, tower.tokenizer, tower.text_encoder)


def test_textual_inversions_that_diffusers_loaded_are_spelled_out_as_it_does(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    generator = Generator(xl.write_sdxl(tmp_path / "xl"))
    pipe = generator._pipeline
    for tower, part, width in (("clip_l", "", tiny.WIDTH), ("clip_g", "_2", xl.WIDE)):
        save_file({tower: tiny.drawn(3, width)}, tmp_path / f"{tower}.safetensors")
        pipe.load_textual_inversion(
            {"mine": tiny.drawn(3, width)},
            token="mine",
            text_encoder=getattr(pipe, f"text_encoder{part}"),
            tokenizer=getattr(pipe, f"tokenizer{part}"),
        )
    wanted, _, pooled, _ = pipe.encode_prompt("a mine star", device="cpu")
    ours = generator.conditioner.plain("a mine star")
    assert torch.equal(ours.tokens, wanted) and torch.equal(ours.pooled, pooled)
