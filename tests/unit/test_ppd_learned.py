"""Learned tokens of known rewards: their names, their mixtures, and users made of them."""

from __future__ import annotations

import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.files.ppd_file import load_ppd, save_ppd
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.layers import LayerShape
from palate.adapters.ppd.learned import LearnedTokens
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import blend_users

NAMES = ("bright", "round", "red")


@pytest.fixture
def ppd() -> PPD:
    attention = UserAttention([LayerShape("a.attn2", 8, 8, 2, 8)], width=6)
    return PPD(attention, LearnedTokens(NAMES, width=6, tokens=2), "custom")


def test_a_mixture_of_rewards_is_the_mixture_of_their_tokens(ppd):
    """0.25 of the first and 0.75 of the third."""
    learned = ppd.encoder
    mixed = learned(torch.tensor([[[0.25, 0.0, 0.75]]]))
    torch.testing.assert_close(mixed[0], 0.25 * learned.values[0] + 0.75 * learned.values[2])
    users = [learned.user(name, ppd) for name in ("bright", "red")]
    torch.testing.assert_close(blend_users(users, [0.25, 0.75]).tokens, mixed[0].detach())


def test_a_reward_is_its_corner_and_belongs_to_its_ppd(ppd):
    user = ppd.encoder.user("round", ppd)
    assert torch.equal(user.tokens, ppd.encoder.values[1].detach())
    assert (user.person, user.base, user.ppd) == ("round", "custom", ppd.identity)


def test_rows_that_do_not_count_change_nothing_and_nobody_is_off(ppd):
    rows = torch.eye(3)[torch.tensor([[0, 1], [2, 2]])]
    mask = torch.tensor([[True, False], [False, False]])
    tokens = ppd.encoder(rows, None, mask)
    assert torch.equal(tokens[0], ppd.encoder.values[0]) and not bool(tokens[1].any())


def test_each_reward_gets_the_gradient_of_its_own_rows(ppd):
    ppd.encoder(torch.eye(3)[None, 1:2]).sum().backward()
    per_reward = ppd.encoder.values.grad.abs().sum(dim=(1, 2))
    assert per_reward.tolist() == [0.0, 12.0, 0.0]


def test_what_makes_no_sense_is_named(ppd):
    with pytest.raises(PPDError, match="Cannot take the reward 'loud': found bright, round, red"):
        ppd.encoder.user("loud", ppd)
    with pytest.raises(PPDError, match="one for each of bright, round, red"):
        ppd.encoder(torch.zeros(1, 1, 4))
    with pytest.raises(PPDError, match="Name each reward once"):
        LearnedTokens(["a", "a"], width=4)


def test_a_file_brings_them_back(ppd, tmp_path):
    save_ppd(ppd, tmp_path / "rewards")
    again = load_ppd(tmp_path / "rewards.safetensors")
    assert again.identity == ppd.identity and again.encoder.names == NAMES
    torch.testing.assert_close(
        again.encoder.user("red", again).tokens, ppd.encoder.values[2].detach(), atol=1e-3, rtol=0
    )


def test_the_same_seed_gives_the_same_tokens_and_config_builds_it_again(ppd):
    again = LearnedTokens(**ppd.encoder.config)
    assert torch.equal(again.values, ppd.encoder.values)
    assert not torch.equal(LearnedTokens(NAMES, 6, 2, seed=1).values, again.values)
