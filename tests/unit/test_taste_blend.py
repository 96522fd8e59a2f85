"""Blended tastes: sums by hand, the posterior of independent people, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from palate.adapters.errors import EncoderMismatchError, ShapeError
from palate.adapters.files import load_taste, save_taste
from palate.adapters.taste import BradleyTerry, Taste, blend_tastes


def taste(weights, person: str = "ann", encoder: str = "e1", **more) -> Taste:
    return Taste(torch.tensor(weights), encoder, f"name of {encoder}", person, more.pop("answers", 3), **more)


def fitted(seed: int, person: str, width: int = 4, pairs: int = 6) -> Taste:
    draw = np.random.default_rng(seed)
    model = BradleyTerry(2.0).fit(draw.normal(size=(pairs, width)), draw.normal(size=(pairs, width)))
    weights = torch.from_numpy(model.weights_.astype(np.float32))
    pair = torch.zeros(1, width)
    return Taste(weights, "e1", "one", person, pairs, prior_variance=2.0, chosen=pair, rejected=pair, fitted=model)


def test_utilities_add_up_by_hand() -> None:
    """1 · (1, 2) − 0.5 · (4, −2) = (−1, 3); the text side 1 · (1, 0, 0) − 0.5 · (0, 2, 4) = (1, −1, −2)."""
    ann = taste([1.0, 2.0], text_weights=torch.tensor([1.0, 0.0, 0.0]), base="sd15", created="2026-01-01")
    bob = taste([4.0, -2.0], "bob", text_weights=torch.tensor([0.0, 2.0, 4.0]), base="sd15", created="2026-02-01")
    both = blend_tastes([ann, bob], [1.0, -0.5])
    assert both.weights.tolist() == [-1.0, 3.0] and both.text_weights.tolist() == [1.0, -1.0, -2.0]
    assert (both.person, both.answers, both.base, both.created) == ("ann − 0.5 bob", 6, "sd15", "2026-02-01")
    assert both.encoder == "e1" and both.chosen is None and both.rejected is None and both.fitted is None


def test_the_posterior_is_that_of_independent_people() -> None:
    people, shares = [fitted(1, "ann"), fitted(2, "bob")], [0.5, -2.0]
    both = blend_tastes(people, shares)
    x = np.random.default_rng(3).normal(size=(5, 4))
    parts = [share**2 * person.model.utility_covariance(x) for share, person in zip(shares, people, strict=True)]
    assert np.allclose(both.model.utility_covariance(x), sum(parts), atol=1e-5)
    assert np.allclose(
        both.model.utility(x), 0.5 * people[0].model.utility(x) - 2 * people[1].model.utility(x), atol=1e-5
    )


def test_a_blend_goes_through_a_file(tmp_path: Path) -> None:
    both = blend_tastes([fitted(seed, f"p{seed}") for seed in range(4)], [1.0, 1.0, -1.0, 0.3])
    loaded = load_taste(save_taste(both, tmp_path / "both.safetensors"), "e1")
    assert torch.equal(loaded.weights, both.weights) and loaded.person == "p0 + p1 − p2 + 0.3 p3"
    assert loaded.gain.shape[1] <= 4 and torch.equal(loaded.gain, both.gain)


def test_a_taste_at_weight_zero_plays_no_part_even_of_another_encoder() -> None:
    ann, eve = taste([1.0, 2.0]), taste([1.0], "eve", "e2")
    alone = blend_tastes([ann, eve], [2.0, 0.0])
    assert alone.weights.tolist() == [2.0, 4.0] and alone.person == "2 ann" and alone.answers == 3


def test_a_taste_less_itself_is_nothing() -> None:
    ann = fitted(1, "ann")
    assert not blend_tastes([ann, ann], [1.0, -1.0]).weights.any()


def test_where_one_lacks_a_text_side_or_a_base_the_blend_does() -> None:
    ann = taste([1.0, 2.0], text_weights=torch.ones(3), base="sd15")
    both = blend_tastes([ann, taste([1.0, 1.0], "bob", base="sdxl")], [1.0, 1.0])
    assert both.text_weights is None and both.base == "" and both.gain is None


def test_what_does_not_fit_is_refused_by_name() -> None:
    ann = taste([1.0, 2.0])
    with pytest.raises(EncoderMismatchError, match=r"'ann' and 'eve'.*name of e1 \(e1\).*name of e2 \(e2\)"):
        blend_tastes([ann, taste([1.0, 2.0], "eve", "e2")], [1.0, 1.0])
    with pytest.raises(ShapeError, match="every weight is 0"):
        blend_tastes([ann], [0.0])
    with pytest.raises(ShapeError, match="2 tastes: weights are 1; expected a number for each"):
        blend_tastes([ann, ann], [1.0])
    with pytest.raises(ShapeError, match=r"weights up to 1e\+308; expected some about 1"):
        blend_tastes([ann], [1e308])
    with pytest.raises(ShapeError, match="weights are nan"):
        blend_tastes([ann], [float("nan")])
    with pytest.raises(ShapeError, match="2 and 1 wide"):
        blend_tastes([ann, taste([1.0])], [1.0, 1.0])
    with pytest.raises(ShapeError, match=r"'ann'.*NaN"):
        blend_tastes([taste([float("nan"), 0.0])], [1.0])
