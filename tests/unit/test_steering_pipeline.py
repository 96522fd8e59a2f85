"""A prompt steered for a diffusers pipeline that somebody else loaded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import sdxl_models as xl
import torch
from palate.adapters.errors import EncoderMismatchError, SteeringError
from palate.adapters.steering import Generator, steer

tiny = xl.tiny

PROMPT = "a red star"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    from diffusers import StableDiffusionPipeline

    folder = tiny.write_pipeline(tmp_path_factory.mktemp("models") / "tiny")
    return StableDiffusionPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    from diffusers import StableDiffusionXLPipeline

    folder = xl.write_sdxl(tmp_path_factory.mktemp("models") / "tiny xl")
    return StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)


def picture(pipeline, **prompt) -> bytes:
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator("cpu").manual_seed(4)
    made = pipeline(**prompt, generator=noise, num_inference_steps=2, guidance_scale=2.0, width=16, height=16)
    return made.images[0].tobytes()


def test_strength_zero_is_the_pipelines_own_picture_and_one_is_not(pipeline) -> None:
    plain = picture(pipeline, prompt=PROMPT, negative_prompt="blue")
    taste = tiny.taste()
    nothing = steer(pipeline, PROMPT, taste, 0.0, negative_prompt="blue", encoder=tiny.encoder())
    moved = steer(pipeline, PROMPT, taste, 1.0, negative_prompt="blue", encoder=tiny.encoder())
    assert picture(pipeline, **nothing) == plain != picture(pipeline, **moved)
    assert torch.equal(moved["negative_prompt_embeds"], nothing["negative_prompt_embeds"])


def test_it_is_the_generators_picture(pipeline, tmp_path) -> None:
    generator = Generator(tiny.write_pipeline(tmp_path / "same"), encoder=tiny.encoder())
    theirs = generator.images(PROMPT, [4], tiny.taste(), steps=2, guidance=2.0, size=16)[0].tobytes()
    assert picture(pipeline, **steer(pipeline, PROMPT, tiny.taste(), encoder=tiny.encoder())) == theirs


def test_sdxl_gets_pooled_vectors_and_a_taste_for_each_tower(large) -> None:
    encoders = (xl.large_encoder(), tiny.encoder())
    moved = steer(large, PROMPT, (xl.large_taste(), tiny.taste()), encoder=encoders)
    plain = large.encode_prompt(PROMPT)
    assert moved["prompt_embeds"].shape == plain[0].shape and moved["pooled_prompt_embeds"].shape == plain[2].shape
    assert not torch.equal(moved["pooled_prompt_embeds"], plain[2])
    first, second = (moved["prompt_embeds"] != plain[0]).split([tiny.WIDTH, xl.WIDE], dim=-1)
    assert first.any() and second.any()
    assert picture(large, **moved)


def test_a_long_negative_prompt_is_as_long_as_what_is_steered(pipeline) -> None:
    long = " ".join(["a red star on a blue hill"] * 20)
    both = steer(pipeline, PROMPT, tiny.taste(), negative_prompt=long, encoder=tiny.encoder())
    assert both["prompt_embeds"].shape == both["negative_prompt_embeds"].shape == (1, 154, tiny.WIDTH)


def test_what_cannot_be_steered_is_named(pipeline) -> None:
    with pytest.raises(EncoderMismatchError, match="fit the taste again"):
        steer(pipeline, PROMPT, tiny.taste(identity="0" * 64), encoder=tiny.encoder())
    with pytest.raises(SteeringError, match="SimpleNamespace: found no text encoder"):
        steer(SimpleNamespace(text_encoder=None), PROMPT, tiny.taste())
    with pytest.raises(SteeringError, match="strength 3"):
        steer(pipeline, PROMPT, tiny.taste(), 3.0, encoder=tiny.encoder())
