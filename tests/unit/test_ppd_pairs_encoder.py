"""The default user encoder: order-free, any number of pairs, and able to learn who somebody is."""

from __future__ import annotations

import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.model import UserEncoder
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from torch.nn import functional as F


def _pairs(people: int, pairs: int, width: int = 16, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sides = F.normalize(torch.randn(2, people, pairs, width, generator=generator), dim=-1)
    return sides[0], sides[1]


def _encoder(**sizes: int) -> PairsEncoder:
    return PairsEncoder(**{"image_width": 16, "width": 12, "tokens": 3, "hidden": 64, "layers": 2, **sizes}).eval()


def test_it_is_a_user_encoder_that_can_be_built_again() -> None:
    encoder = _encoder()
    assert isinstance(encoder, UserEncoder)
    again = PairsEncoder(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder(*_pairs(2, 5)), again(*_pairs(2, 5)))


def test_the_same_seed_gives_the_same_weights_and_leaves_chance_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = _encoder(), _encoder(), _encoder(seed=1)
    assert torch.equal(one.start, same.start) and not torch.equal(one.start, other.start)
    assert torch.equal(before, torch.random.get_rng_state())


@torch.no_grad()
def test_order_changes_nothing() -> None:
    encoder, (chosen, rejected) = _encoder(), _pairs(3, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(encoder(chosen, rejected), encoder(chosen[:, order], rejected[:, order]), atol=1e-5)


@torch.no_grad()
def test_sides_and_numbers_count() -> None:
    encoder, (chosen, rejected) = _encoder(), _pairs(1, 4)
    plain = encoder(chosen, rejected)
    assert plain.shape == (1, 3, 12)
    assert not torch.allclose(plain, encoder(rejected, chosen), atol=1e-3)
    assert not torch.allclose(plain, encoder(chosen.repeat(1, 2, 1), rejected.repeat(1, 2, 1)), atol=1e-3)


@torch.no_grad()
def test_what_is_masked_is_not_there_not_even_as_nan() -> None:
    encoder, (chosen, rejected) = _encoder(), _pairs(2, 6)
    mask = torch.arange(6)[None] < torch.tensor([[2], [6]])
    hidden = chosen.clone()
    hidden[0, 2:] = float("nan")
    found = encoder(hidden, rejected, mask)
    assert torch.allclose(found[:1], encoder(chosen[:1, :2], rejected[:1, :2]), atol=1e-5)
    assert torch.allclose(found[1:], encoder(chosen[1:], rejected[1:]), atol=1e-5)


@torch.no_grad()
def test_without_a_pair_it_is_the_average_user() -> None:
    encoder, (chosen, rejected) = _encoder(), _pairs(2, 3)
    none = encoder(chosen[:, :0], rejected[:, :0])
    assert none.shape == (2, 3, 12) and torch.isfinite(none).all()
    assert torch.allclose(none[0], none[1], atol=1e-6)  # some processors round the rows of one batch differently
    assert torch.allclose(none, encoder(chosen, rejected, torch.zeros(2, 3, dtype=torch.bool)), atol=1e-5)


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(PPDError, match="16"):
        _encoder()(*_pairs(1, 2, width=8))
    with pytest.raises(PPDError, match="chosen"):
        _encoder()(_pairs(1, 2)[0], _pairs(1, 3)[1])


@pytest.mark.parametrize("sizes", [{"tokens": 0}, {"hidden": 40}, {"layers": 0}, {"width": -1}])
def test_sizes_that_no_network_has_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(PPDError, match=next(iter(sizes))):
        _encoder(**sizes)


def test_it_learns_what_somebody_likes() -> None:
    """People like one of two directions; the tokens must tell which, for people and pictures that are new."""
    torch.manual_seed(0)
    encoder, head = _encoder(layers=1), torch.nn.Linear(3 * 12, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)

    def people(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        one, other = _pairs(64, 6, seed=seed)
        likes = torch.randint(2, (64,), generator=torch.Generator().manual_seed(seed))
        axis = torch.arange(64)[:, None], torch.arange(6)[None], likes[:, None]
        first = (one[axis] > other[axis])[..., None]
        return torch.where(first, one, other), torch.where(first, other, one), likes

    for step in range(45):
        chosen, rejected, likes = people(step)
        loss = F.binary_cross_entropy_with_logits(head(encoder(chosen, rejected).flatten(1))[:, 0], likes.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    chosen, rejected, likes = people(1000)
    right = (head(encoder(chosen, rejected).flatten(1))[:, 0] > 0) == (likes == 1)
    assert right.float().mean() > 0.75
