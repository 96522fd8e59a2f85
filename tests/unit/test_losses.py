"""The losses of fine-tuning: hand-worked numbers, the limits that tie them together, and what holds for all."""

from __future__ import annotations

import math

import pytest
import torch
from palate.adapters.errors import FineTuneError, ShapeError
from palate.adapters.finetune.losses import (
    BETAS,
    LOSSES,
    REFERENCE_FREE,
    PairErrors,
    adaptive_dpo,
    cdpo,
    contrast_weights,
    dpo,
    ipo,
    kto,
    mapo,
    minority,
    pair_embedding,
    rdpo,
    rpo,
    sft,
)
from palate.adapters.finetune.losses.mapo import link

WITH_REFERENCE = sorted(set(LOSSES) - REFERENCE_FREE)
# improvement 0.02 on the chosen, -0.01 on the rejected image: r = 0.03
ONE = PairErrors(*(torch.tensor([value]) for value in (0.10, 0.16, 0.12, 0.15)))


def drawn(count: int = 6, seed: int = 0) -> PairErrors:
    generator = torch.Generator().manual_seed(seed)
    chosen, rejected, *reference = 0.05 + 0.01 * torch.rand(4, count, generator=generator)
    return PairErrors(chosen.clone().requires_grad_(), rejected.clone().requires_grad_(), *reference)


def swapped(errors: PairErrors) -> PairErrors:
    return PairErrors(errors.rejected, errors.chosen, errors.ref_rejected, errors.ref_chosen)


def by_hand(value: float) -> float:
    return math.log1p(math.exp(-value))


def test_dpo_by_hand() -> None:
    """beta 100: margin = 50 * (0.02 - -0.01) = 1.5; loss = log(1 + e^-1.5) = 0.2014."""
    found = dpo(ONE, beta=100)
    assert found.margin.item() == pytest.approx(1.5, rel=1e-5)
    assert found.loss.item() == pytest.approx(0.20141, abs=1e-4)
    assert found.accuracy == 1.0


def test_cdpo_with_each_pairs_own_doubt() -> None:
    """Trusted it is dpo, surely mistaken it is dpo of the sides turned over, and at 1/2 nobody is pulled anywhere."""
    errors = drawn(3)
    found = cdpo(errors, beta=100, flip_rate=torch.tensor([0.0, 1.0, 0.5])).loss
    assert found[0] == dpo(errors, beta=100).loss[0] and found[1] == dpo(swapped(errors), beta=100).loss[1]
    even = PairErrors(*(torch.full((1,), 0.1, requires_grad=True) for _ in range(2)), *torch.full((2, 1), 0.1))
    cdpo(even, beta=100, flip_rate=torch.tensor([0.5])).loss.sum().backward()
    assert even.chosen.grad.item() == even.rejected.grad.item() == 0.0
    with pytest.raises(ShapeError, match=r"flip rates of shape \(2,\)"):
        cdpo(ONE, beta=100, flip_rate=torch.zeros(2))
    with pytest.raises(FineTuneError, match="outside"):
        cdpo(ONE, beta=100, flip_rate=torch.tensor([1.1]))


def test_the_others_by_hand() -> None:
    assert sft(ONE, beta=1).loss.item() == pytest.approx(0.10)
    assert sft(ONE, beta=1).margin.item() == pytest.approx(0.06, rel=1e-5)
    conservative = 0.8 * by_hand(1.5) + 0.2 * by_hand(-1.5)
    assert cdpo(ONE, beta=100, flip_rate=0.2).loss.item() == pytest.approx(conservative, rel=1e-5)
    robust = (0.8 * by_hand(1.5) - 0.2 * by_hand(-1.5)) / 0.6
    assert rdpo(ONE, beta=100, flip_rate=0.2).loss.item() == pytest.approx(robust, rel=1e-5)
    # r = 0.03 against 1 / 200 = 0.005
    assert ipo(ONE, beta=100).loss.item() == pytest.approx(0.025**2, rel=1e-4)
    # mean improvement 0.005: z = 50 * 0.015 = 0.75 and 50 * -0.015 = -0.75, so both images cost sigmoid(-0.75)
    assert kto(ONE, beta=100).loss.item() == pytest.approx(1 / (1 + math.exp(0.75)), rel=1e-5)


def test_mapo_by_hand() -> None:
    """The papers' note: errors 0.12 and 0.15 give a logit of 7.33 in the released code."""
    pair = PairErrors(torch.tensor([0.12]), torch.tensor([0.15]))
    assert mapo(pair, beta=0.1).margin.item() == pytest.approx(7.33, abs=5e-3)
    assert mapo(pair, beta=0.1).loss.item() == pytest.approx(0.12 + 0.1 * by_hand(7.3289), abs=1e-6)
    one, other = 0.12 / math.expm1(0.12), 0.15 / math.expm1(0.15)
    assert mapo(pair, beta=8, variant="paper_exponent").margin.item() == pytest.approx(one**8 - other**8, rel=1e-4)
    assert mapo(pair, beta=8, variant="paper_prefactor").margin.item() == pytest.approx(8 * (one - other), rel=1e-4)


@pytest.mark.parametrize(
    ("variant", "beta", "pull"),
    [
        ("code", 0.1, 12.25),
        ("paper_prefactor", 32.0, 0.24),
        ("paper_exponent", 8.0, 0.157),
        ("paper_exponent", 32.0, 0.037),
    ],
)
def test_mapos_variants_pull_as_differently_as_they_do(variant: str, beta: float, pull: float) -> None:
    """At equal errors of 0.12, where plain training pulls with 1."""
    chosen = torch.tensor([0.12], dtype=torch.float64).float().requires_grad_()
    mapo(PairErrors(chosen, torch.tensor([0.12])), beta=beta, variant=variant).loss.sum().backward()
    assert chosen.grad.item() - 1.0 == pytest.approx(pull, rel=0.02)


def test_mapos_link_keeps_its_digits_for_small_errors() -> None:
    error = torch.tensor([0.0, 1e-7, 1e-5, 9e-5, 1.1e-4, 1e-3, 0.1, 3.0])
    exact = [1.0 if x == 0 else x / math.expm1(x) for x in error.double().tolist()]
    assert link(error).tolist() == pytest.approx(exact, rel=1e-6)
    error.requires_grad_()
    link(error).sum().backward()
    assert torch.isfinite(error.grad).all() and error.grad[0].item() == pytest.approx(-0.5)


@pytest.mark.parametrize("name", ["dpo", "cdpo", "rdpo", "rpo", "adaptive_dpo"])
def test_an_untrained_policy_costs_a_coins_surprise_and_still_learns(name: str) -> None:
    start = drawn()
    errors = PairErrors(start.chosen, start.rejected, start.chosen.detach(), start.rejected.detach())
    leaf = start.chosen
    found = LOSSES[name](errors, beta=BETAS[name])
    assert found.loss.tolist() == pytest.approx([math.log(2)] * 6, rel=1e-6)
    assert (torch.autograd.grad(found.loss.sum(), leaf)[0] > 0).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_swapping_the_sides_turns_the_margin_around(name: str) -> None:
    there, back = (LOSSES[name](errors, beta=BETAS[name]).margin for errors in (drawn(), swapped(drawn())))
    assert torch.allclose(there, -back, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_step_along_the_gradient_lowers_the_chosen_error(name: str) -> None:
    errors = drawn()
    loss = LOSSES[name](errors, beta=0.1 if name == "mapo" else 10.0).loss.mean()
    gradient = torch.autograd.grad(loss, errors.chosen)[0]
    assert torch.isfinite(gradient).all() and (gradient >= 0).all() and (gradient > 0).any()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    errors = drawn(3, seed=2)
    # Small betas: in float32 a difference quotient sees nothing of a loss with a large one.
    beta = 0.01 if name == "mapo" else 50.0
    values = errors.chosen.detach().clone().requires_grad_()
    loss = lambda x: LOSSES[name](PairErrors(x, errors.rejected, errors.ref_chosen, errors.ref_rejected), beta=beta)  # noqa: E731
    wanted = torch.autograd.grad(loss(values).loss.sum(), values)[0]
    if name in ("kto", "adaptive_dpo"):  # their baseline and weights are constants by definition
        assert torch.isfinite(wanted).all()
        return
    step = 2e-3
    for index in range(3):
        shift = torch.zeros(3)
        shift[index] = step
        quotient = (loss(values + shift).loss.sum() - loss(values - shift).loss.sum()) / (2 * step)
        assert quotient.item() == pytest.approx(wanted[index].item(), rel=0.02, abs=1e-4)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_nothing_overflows(name: str, size: float) -> None:
    values = torch.tensor([0.1, 0.1 + size / 1e4, 0.1, 0.1], requires_grad=True)
    errors = PairErrors(*(values[k : k + 1].abs() for k in range(4)))
    found = LOSSES[name](errors, beta=max(BETAS[name], 1.0) * 1e4 if name != "mapo" else 0.1)
    found.loss.sum().backward()
    assert torch.isfinite(found.loss).all() and torch.isfinite(values.grad).all()


def test_limits_tie_the_losses_together() -> None:
    errors, beta = drawn(), 2000.0
    plain = dpo(errors, beta=beta)
    same = [
        cdpo(errors, beta=beta, flip_rate=0.0),
        rdpo(errors, beta=beta, flip_rate=0.0, largest=1e6),
        rpo(errors, beta=beta),
        adaptive_dpo(errors, beta=beta, k1=0.0, c1=1.0),
    ]
    for other in same:
        assert torch.allclose(other.loss, plain.loss, rtol=1e-5) and torch.equal(other.margin, plain.margin)
    assert torch.allclose(kto(errors, beta=beta).margin, plain.margin, atol=1e-5)
    assert torch.allclose(mapo(errors, beta=1e-9).loss, sft(errors, beta=0.0).loss, atol=1e-6)


def test_diffusers_beta_without_the_half_is_half_of_ours() -> None:
    errors = drawn()
    ratio = (errors.ref_chosen - errors.ref_rejected) - (errors.chosen - errors.rejected)
    assert torch.allclose(dpo(errors, beta=5000.0).margin, 2500.0 * ratio, rtol=1e-4)


def test_rpo_with_weights_of_the_identity_has_dpos_gradient() -> None:
    mine, theirs = drawn(), drawn()
    rpo(mine, beta=500.0, weights=torch.eye(6)).loss.mean().backward()
    dpo(theirs, beta=500.0).loss.mean().backward()
    assert torch.allclose(mine.chosen.grad, theirs.chosen.grad, rtol=1e-4)
    assert torch.allclose(mine.rejected.grad, theirs.rejected.grad, rtol=1e-4)


def test_rpos_weights() -> None:
    """Rows sum to 1; equal embeddings give 1 / B; a small temperature leaves each pair alone."""
    embeddings = torch.nn.functional.one_hot(torch.arange(4), 8).float()
    assert torch.allclose(contrast_weights(embeddings, embeddings, 0.01), torch.eye(4), atol=1e-6)
    same = torch.ones(4, 8)
    assert torch.allclose(contrast_weights(same, same), torch.full((4, 4), 0.25))
    even = contrast_weights(embeddings, embeddings.roll(1, 0), 0.5)
    assert torch.allclose(even.sum(dim=1), torch.ones(4)) and not even.requires_grad
    # cosines 1 and 0 at temperature 1: e^0 / (e^0 + e^-1) = 0.7311
    two = torch.eye(2)
    assert contrast_weights(two, two, 1.0)[0, 0].item() == pytest.approx(0.7311, abs=1e-4)


def test_rpo_contrasts_every_chosen_with_every_rejected() -> None:
    """Two pairs by hand: improvements 0.02, 0.04 and 0.00, 0.01; beta 100; even weights."""
    zero = torch.zeros(2)
    errors = PairErrors(-torch.tensor([0.02, 0.04]), -torch.tensor([0.00, 0.01]), zero, zero)
    even = torch.full((2, 2), 0.5)
    inside = rpo(errors, beta=100.0, weights=even).loss.tolist()
    assert inside == pytest.approx([by_hand(0.5) + by_hand(0.25), by_hand(1.0) + by_hand(0.75)], rel=1e-5)
    outside = rpo(errors, beta=100.0, weights=even, place="outside").loss.tolist()
    wanted = [0.5 * (by_hand(1.0) + by_hand(0.5)), 0.5 * (by_hand(2.0) + by_hand(1.5))]
    assert outside == pytest.approx(wanted, rel=1e-5)


def test_image_and_prompt_count_half_each_in_a_pairs_embedding() -> None:
    image, text = torch.eye(2), torch.ones(2, 3)
    joined = torch.nn.functional.normalize(pair_embedding(image, 7 * text), dim=1)
    assert (joined @ joined.T)[0, 1].item() == pytest.approx(0.5)


def test_the_minority_metric_by_hand() -> None:
    """Log-odds (-4, -4, -4): all firmly against; (-4, -3.5, -3): against and apart."""
    log_odds = torch.tensor([[-4.0, -4.0], [-4.0, -3.5], [-4.0, -3.0]])
    found = minority(log_odds)
    assert found.doubt.tolist() == pytest.approx([0.982, 0.969], abs=1e-3)
    assert found.unrest.tolist() == pytest.approx([0.0, 0.5])
    assert found.score.tolist() == pytest.approx([0.964, 0.937], abs=1e-3)
    # The paper's product does not see the first one.
    assert (found.doubt * found.unrest).tolist() == pytest.approx([0.0, 0.484], abs=1e-3)


def test_the_released_metric_does_not_know_scale() -> None:
    log_odds = torch.randn(3, 8, generator=torch.Generator().manual_seed(4))
    one, other = (minority(scale * log_odds, released=True).score for scale in (1.0, 1e-6))
    assert torch.allclose(one, other, atol=1e-5)
    assert minority(1e-6 * log_odds).score.max() < 1e-5


def test_a_pair_that_looks_mistaken_pulls_less() -> None:
    reference = torch.full((2,), 0.1)
    chosen = torch.tensor([0.099, 0.101], requires_grad=True)
    errors = PairErrors(chosen, torch.tensor([0.101, 0.099]), reference, reference)
    for released in (False, True):
        past = PairErrors(chosen.detach() + torch.tensor([0.0, 0.0005]), errors.rejected, reference, reference)
        loss = adaptive_dpo(errors, beta=4000.0, annotators=[past], released=released).loss
        plain = dpo(errors, beta=4000.0).loss
        kept = torch.autograd.grad(loss.sum(), chosen)[0] / torch.autograd.grad(plain.sum(), chosen)[0]
        assert kept[0] > 0.9 and kept[1] < 0.5


def test_the_shift_moves_what_a_margin_must_reach() -> None:
    errors = drawn()
    shifted = adaptive_dpo(errors, beta=2000.0, k1=0.0, c2=0.7)
    assert torch.allclose(shifted.loss, torch.nn.functional.softplus(0.7 - shifted.margin), rtol=1e-5)


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_a_missing_reference_is_named(name: str) -> None:
    with pytest.raises(ShapeError, match="no errors of the reference model"):
        LOSSES[name](PairErrors(torch.ones(2), torch.ones(2)), beta=1.0)


def test_settings_and_shapes_that_make_no_sense_are_named() -> None:
    errors = drawn()
    with pytest.raises(ShapeError, match=r"chosen \(2,\).*rejected \(3,\)"):
        PairErrors(torch.ones(2), torch.ones(3))
    with pytest.raises(ShapeError, match="ref_rejected None"):
        PairErrors(torch.ones(2), torch.ones(2), torch.ones(2))
    with pytest.raises(FineTuneError, match="beta is 0"):
        dpo(errors, beta=0)
    with pytest.raises(FineTuneError, match=r"flip_rate is 0\.5; expected a number 0 or more and below 0\.5"):
        rdpo(errors, beta=1.0, flip_rate=0.5)
    with pytest.raises(FineTuneError, match="variant 'v3'"):
        mapo(errors, beta=1.0, variant="v3")
    with pytest.raises(FineTuneError, match="place 'middle'"):
        rpo(errors, beta=1.0, weights=torch.eye(6), place="middle")
    with pytest.raises(ShapeError, match=r"weights of shape \(2, 2\); expected \(6, 6\)"):
        rpo(errors, beta=1.0, weights=torch.eye(2))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_half_precision_errors_are_computed_in_full(name: str) -> None:
    errors = PairErrors(*(value.detach().bfloat16() for value in vars(drawn()).values()))
    assert LOSSES[name](errors, beta=BETAS[name]).loss.dtype == torch.float32
