"""Pictures for a user from a whole pipeline: the plain picture where the user is off, another where it is on."""

from __future__ import annotations

import numpy as np
import pytest
import sdxl_models as large
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.layers import layers_of, standard_layers, width_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User
from palate.adapters.steering import Generator

tiny = large.tiny

SHORT = {"seeds": [1, 2], "steps": 2, "size": 16}


def ppd_for(generator: Generator, trained: bool = True) -> PPD:
    unet = generator._pipeline.unet
    attention = UserAttention(layers_of(unet), width_of(unet))
    for place, value in enumerate(attention.values):
        value.weight.data += (2.0 if trained else 0.0) * tiny.drawn(*value.weight.shape, seed=place)
    return PPD(attention, None, "custom", "test")


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("model") / request.param
    made = Generator(tiny.write_pipeline(folder) if request.param == "sd15" else large.write_sdxl(folder))
    made.use_ppd(ppd_for(made))
    return made


def user_of(generator: Generator, seed: int = 0) -> User:
    return User(tiny.drawn(4, generator.ppd.width, seed=seed), generator.ppd.identity, person="mara")


def same(one: list, other: list) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_user_changes_pictures_and_nobody_does_not(generator: Generator) -> None:
    plain, user = generator.images("a red star", **SHORT), user_of(generator)
    hers = generator.images("a red star", **SHORT, user=user)
    assert not same(plain, hers) and same(hers, generator.images("a red star", **SHORT, user=user))
    assert not same(hers, generator.images("a red star", **SHORT, user=user_of(generator, 1)))
    assert same(plain, generator.images("a red star", **SHORT, user=user, user_strength=0.0))
    generator._pictures.clear()
    assert same(plain, generator.images("a red star", **SHORT))
    assert same(hers, generator.images("a red star", **SHORT, user=user))


def test_strength_schedule_and_guidance_make_other_pictures(generator: Generator) -> None:
    user = user_of(generator)
    found = [
        generator.images("a red star", **SHORT | {"steps": 4}, user=user, **more)
        for more in ({}, {"user_strength": -1.0}, {"user_start": 0.5}, {"user_end": 0.5}, {"guidance": 1.0})
    ]
    assert not any(same(one, other) for place, one in enumerate(found) for other in found[:place])


def test_an_untrained_ppd_is_the_plain_model(generator: Generator) -> None:
    trained, plain = generator.ppd, generator.images("a blue hill", **SHORT)
    try:
        generator.use_ppd(ppd_for(generator, trained=False))
        assert same(plain, generator.images("a blue hill", **SHORT, user=user_of(generator)))
    finally:
        generator.use_ppd(trained)


def test_users_that_do_not_fit_are_refused_before_the_first_step(generator: Generator) -> None:
    def never(*_: int) -> None:
        raise AssertionError("it started")

    for user, strength, words in (
        (User(torch.ones(4, generator.ppd.width), "other"), 1.0, "was made by the PPD other"),
        (User(torch.ones(4, 7), "other", base="sdxl"), 1.0, "width 7, made for sdxl"),
        (user_of(generator), 100.0, "strength 100"),
    ):
        with pytest.raises(PPDError, match=words):
            generator.images("a star", **SHORT, user=user, user_strength=strength, on_step=never)
    ppd, user = generator.ppd, user_of(generator)
    generator.use_ppd(None)
    with pytest.raises(PPDError, match="'mara': no PPD is loaded; expected"):
        generator.images("a star", **SHORT, user=user, on_step=never)
    with pytest.raises(PPDError, match="expected the 1 of sd15"):
        generator.use_ppd(PPD(UserAttention(standard_layers("sd15")[:1], 768), None, "sd15"))
    generator.use_ppd(ppd)
