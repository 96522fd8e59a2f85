"""The closed form: hand-worked numbers, finite differences, autograd, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from palate.adapters.errors import NotEnoughAnswersError, PreferenceError, ShapeError, SteeringError
from palate.adapters.steering import TasteObjective, adapt_text_embedding
from palate.adapters.steering.embedding import preference_gradient, preference_loss


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_one_pair_by_hand() -> None:
    """x = (ln 3, 0), y_chosen − y_rejected = (1, 0) − (0, 1) = (1, −1), so z = ln 3, p = 3/4, ∇ = −(1 − 3/4)(1, −1).

    One step of size 2: x + 2 · 1/4 · (1, −1) = (ln 3 + 1/2, −1/2).
    """
    x = torch.tensor([math.log(3.0), 0.0], dtype=torch.float64)
    chosen, rejected = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    moved = adapt_text_embedding(x, chosen, rejected, steps=1, step_size=2.0)
    assert torch.allclose(moved, torch.tensor([math.log(3.0) + 0.5, -0.5], dtype=torch.float64), atol=1e-12)


def test_mean_over_pairs_and_logit_scale_by_hand() -> None:
    """x = 0: every p = 1/2, so ∇ = −s/2 · mean Δ. Δ = (2, 0) and (0, 4), s = 3: −1.5 · (1, 2) = (−1.5, −3)."""
    chosen, rejected = torch.tensor([[1.0, 0.0], [0.0, 4.0]]), torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
    moved = adapt_text_embedding(torch.zeros(2), chosen, rejected, logit_scale=3.0)
    assert moved.tolist() == [1.5, 3.0]


def test_positive_by_hand() -> None:
    """x − ε · (−mean chosen), twice: (1, 1) + 2 · 0.5 · (2, 3) = (3, 4)."""
    chosen, rejected = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)
    moved = adapt_text_embedding(torch.ones(2), chosen, rejected, 2, 0.5, objective="positive")
    assert moved.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_gradient_is_the_finite_difference(scale: float) -> None:
    x, chosen, rejected = drawn(24), drawn(5, 24, seed=1) / 24, drawn(5, 24, seed=2) / 24
    step = 1e-6
    eye = torch.eye(24, dtype=torch.float64) * step
    numeric = (
        preference_loss(x + eye, chosen, rejected, scale) - preference_loss(x - eye, chosen, rejected, scale)
    ) / (2 * step)
    assert torch.allclose(preference_gradient(x, chosen, rejected, scale), numeric, atol=1e-7)


@pytest.mark.parametrize("kind", ["pairs", "direction"])
def test_objective_gradient_is_autograd(kind: str) -> None:
    x = drawn(3, 8).requires_grad_()
    chosen, rejected = drawn(4, 8, seed=1), drawn(4, 8, seed=2)
    objective = (
        TasteObjective(None, chosen, rejected, 2.0) if kind == "pairs" else TasteObjective(chosen[0], None, None, 2.0)
    )
    (wanted,) = torch.autograd.grad(objective.loss(x), x)
    assert torch.allclose(objective.gradient(x.detach()), wanted, atol=1e-12)


def test_far_from_the_data_everything_stays_finite() -> None:
    chosen, rejected = torch.ones(1, 2), -torch.ones(1, 2)
    for sign in (1.0, -1.0):
        x = torch.full((2,), sign * 1e4)
        assert torch.isfinite(preference_loss(x, chosen, rejected, 100.0))
        assert torch.isfinite(adapt_text_embedding(x, chosen, rejected, 3, logit_scale=100.0)).all()


def test_zero_steps_and_zero_size_are_the_same_bits() -> None:
    x = drawn(8).float()
    chosen, rejected = drawn(3, 8, seed=1), drawn(3, 8, seed=2)
    assert torch.equal(adapt_text_embedding(x, chosen, rejected, steps=0), x)
    assert torch.equal(adapt_text_embedding(x, chosen, rejected, step_size=0.0), x)
    assert torch.equal(adapt_text_embedding(x.half(), chosen, rejected, steps=0), x.half())


def test_swapping_sides_turns_the_first_step_around() -> None:
    x, chosen, rejected = torch.zeros(8), drawn(3, 8, seed=1), drawn(3, 8, seed=2)
    there = adapt_text_embedding(x, chosen, rejected)
    back = adapt_text_embedding(x, rejected, chosen)
    assert torch.allclose(there, -back, atol=1e-6)


def test_loss_falls_with_every_small_step() -> None:
    x, chosen, rejected = drawn(16), drawn(10, 16, seed=1), drawn(10, 16, seed=2)
    losses = [
        float(preference_loss(adapt_text_embedding(x, chosen, rejected, steps, 0.05), chosen, rejected))
        for steps in range(6)
    ]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]


def test_nothing_given_is_changed() -> None:
    x, chosen, rejected = drawn(4), drawn(2, 4, seed=1), drawn(2, 4, seed=2)
    copies = [t.clone() for t in (x, chosen, rejected)]
    adapt_text_embedding(x, chosen, rejected, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(copies, (x, chosen, rejected), strict=True))


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"text_embedding": torch.zeros(1, 4)}, ShapeError, r"\(1, 4\); expected \(D,\)"),
        ({"chosen": torch.zeros(2, 5)}, ShapeError, r"expected both \(N, 4\)"),
        ({"chosen": torch.zeros(3, 4)}, ShapeError, r"chosen is \(3, 4\)"),
        ({"chosen": torch.zeros(0, 4), "rejected": torch.zeros(0, 4)}, NotEnoughAnswersError, "no pairs"),
        ({"rejected": torch.full((2, 4), float("nan"))}, ShapeError, "NaN or infinity in rejected"),
        ({"objective": "sideways"}, SteeringError, "expected one of bradley_terry, positive"),
        ({"steps": -1}, SteeringError, "-1 steps"),
    ],
)
def test_what_makes_no_sense_is_named(changed: dict, error: type[PreferenceError], said: str) -> None:
    given = {"text_embedding": torch.zeros(4), "chosen": torch.ones(2, 4), "rejected": torch.zeros(2, 4)} | changed
    with pytest.raises(error, match=said):
        adapt_text_embedding(**given)
