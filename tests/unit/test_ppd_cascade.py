"""A user in Stable Cascade's stage C: its layers, the base bit for bit without a user, and a step of training."""

from __future__ import annotations

import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.cascade import cascade_branch, cascade_layers, cascade_width, use_user_in_cascade
from palate.adapters.ppd.learned import LearnedTokens
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User

STAGE_C = {
    "in_channels": 16,
    "conditioning_dim": 2048,
    "block_out_channels": (2048, 2048),
    "num_attention_heads": (32, 32),
    "down_num_layers_per_block": (8, 24),
    "up_num_layers_per_block": (24, 8),
    "clip_text_in_channels": 1280,
    "clip_image_in_channels": 768,
    "switch_level": (False,),
}
WIDTH, TOKENS = 12, 3


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet():
    from diffusers import StableCascadeUNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return StableCascadeUNet(
            in_channels=4,
            out_channels=4,
            conditioning_dim=WIDTH,
            block_out_channels=(8, 16),
            num_attention_heads=(2, 2),
            down_num_layers_per_block=(1, 2),
            up_num_layers_per_block=(2, 1),
            clip_text_in_channels=10,
            clip_text_pooled_in_channels=10,
            clip_image_in_channels=6,
            clip_seq=2,
            switch_level=(False,),
            dropout=(0.0, 0.0),
        ).eval()


def new_ppd(unet, values: float = 0.0) -> PPD:
    attention = UserAttention(cascade_layers(unet), WIDTH)
    for place, layer in enumerate(attention.values):
        layer.weight.data += values * drawn(*layer.weight.shape, seed=place)
    return PPD(attention, LearnedTokens(["a"], WIDTH, TOKENS), "cascade")


def predicted(unet, rows: int = 2, ratio: float = 0.5, same: bool = False) -> torch.Tensor:
    out = unet(
        drawn(rows, 4, 4, 4) if not same else drawn(1, 4, 4, 4).expand(rows, -1, -1, -1),
        timestep_ratio=torch.full((rows,), ratio),
        clip_text_pooled=drawn(1, 1, 10, seed=1).expand(rows, -1, -1),
        clip_text=drawn(1, 5, 10, seed=2).expand(rows, -1, -1),
        clip_img=drawn(1, 1, 6, seed=3).expand(rows, -1, -1),
    )
    return out.sample


def mara(ppd: PPD) -> User:
    return User(drawn(TOKENS, WIDTH, seed=9), ppd.identity, person="mara", base="cascade")


class TestLayers:
    def test_stage_c_has_64_attentions_of_2048_in_32_heads(self):
        from diffusers import StableCascadeUNet

        with torch.device("meta"):
            unet = StableCascadeUNet(**STAGE_C)
        layers = cascade_layers(unet)
        assert len(layers) == 8 + 24 + 24 + 8 and cascade_width(unet) == 2048
        assert {(layer.query, layer.inner, layer.heads, layer.out) for layer in layers} == {(2048, 2048, 32, 2048)}
        assert (layers[0].name, layers[-1].name) == ("down_blocks.0.2.attention", "up_blocks.1.23.attention")
        assert all(unet.get_submodule(layer.name).heads == 32 for layer in layers)

    def test_another_model_is_refused_before_anything_is_changed(self, unet):
        with pytest.raises(PPDError, match="into a Linear as into Stable Cascade"):
            cascade_layers(torch.nn.Linear(2, 2))
        small = PPD(UserAttention(cascade_layers(unet)[:2], WIDTH), None, "cascade")
        before = unet.get_submodule(cascade_layers(unet)[0].name).processor
        with (
            pytest.raises(PPDError, match="6 cross-attentions; expected the 2 of cascade"),
            cascade_branch(unet, small),
        ):
            pass
        assert unet.get_submodule(cascade_layers(unet)[0].name).processor is before


class TestUse:
    def test_nobody_and_strength_0_are_the_base_bit_for_bit(self, unet):
        ppd = new_ppd(unet, values=1.0)
        with torch.no_grad():
            base = predicted(unet)
            for user, strength in ((None, 1.0), (mara(ppd), 0.0)):
                with use_user_in_cascade(unet, ppd, user, strength):
                    assert torch.equal(predicted(unet), base)
            zero = new_ppd(unet)
            with use_user_in_cascade(unet, zero, mara(zero)):
                assert torch.equal(predicted(unet), base)
            assert torch.equal(predicted(unet), base)

    def test_only_the_first_half_of_its_guidance_sees_the_user(self, unet):
        """Stable Cascade's pipeline asks for [cond; uncond], Stable Diffusion's the other way round."""
        ppd = new_ppd(unet, values=1.0)
        with torch.no_grad():
            base = predicted(unet, same=True)
            with use_user_in_cascade(unet, ppd, mara(ppd)):
                guided = predicted(unet, same=True)
        assert torch.equal(guided[1], base[1]) and (guided[0] - base[0]).abs().max() > 1e-3

    def test_it_acts_in_its_part_of_the_schedule(self, unet):
        """From 0.25 to 0.75 of the schedule: timestep ratios from 0.75 down to 0.25."""
        ppd = new_ppd(unet, values=1.0)
        with torch.no_grad(), use_user_in_cascade(unet, ppd, mara(ppd), start_percent=0.25, end_percent=0.75):
            rows = [predicted(unet, ratio=ratio, same=True) for ratio in (0.9, 0.7, 0.3, 0.1)]
        # By more than rounding: some processors round the rows of one batch differently.
        acts = [bool(found.diff(dim=0).abs().max() > 1e-4) for found in rows]
        assert acts == [False, True, True, False]

    def test_one_block_by_hand(self, unet):
        """What a block gives with a user less without is W_out softmax(Q K' / sqrt(4)) V."""
        ppd = new_ppd(unet, values=1.0)
        layer = cascade_layers(unet)[0]
        attention = unet.get_submodule(layer.name)
        hidden, text = drawn(1, 8, 4, 4, seed=4), drawn(1, 5, 8, seed=5)
        with torch.no_grad():
            plain = attention(hidden, encoder_hidden_states=text)
            with use_user_in_cascade(unet, ppd, mara(ppd), guidance=False):
                found = attention(hidden, encoder_hidden_states=text) - plain
            query = attention.to_q(hidden.flatten(2).transpose(1, 2)).view(16, 2, 4).transpose(0, 1)
            keys = ppd.attention.keys[0](mara(ppd).tokens).view(TOKENS, 2, 4).transpose(0, 1)
            values = ppd.attention.values[0](mara(ppd).tokens).view(TOKENS, 2, 4).transpose(0, 1)
            answer = ((query @ keys.mT / 2).softmax(-1) @ values).transpose(0, 1).reshape(16, 8)
            expected = (answer @ attention.to_out[0].weight.T).T.view(1, 8, 4, 4)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


class TestTraining:
    def test_a_step_moves_values_and_tokens_only_and_the_reference_stays(self, unet):
        ppd = new_ppd(unet)
        before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
        unet.requires_grad_(False)
        optimizer = torch.optim.AdamW(ppd.parameters(), lr=1e-2)
        with cascade_branch(unet, ppd) as branch:
            reference = predicted(unet)
            branch.tokens = ppd.encoder(torch.ones(2, 1, 1))
            out = predicted(unet)
            assert torch.equal(out, reference)
            out.square().mean().backward()
            assert all(bool(layer.weight.grad.any()) for layer in ppd.attention.values)
            optimizer.step()
            branch.tokens = ppd.encoder(torch.ones(2, 1, 1))
            assert not torch.equal(predicted(unet), reference)
            branch.tokens = torch.zeros(2, TOKENS, WIDTH)
            assert torch.equal(predicted(unet), reference)
        assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())

    def test_checkpointing_sees_the_tokens_of_its_forward_pass(self, unet):
        gradients = []
        unet.requires_grad_(False)
        for checkpointing in (False, True):
            ppd = new_ppd(unet, values=1.0)
            (unet.enable_gradient_checkpointing if checkpointing else unet.disable_gradient_checkpointing)()
            with cascade_branch(unet, ppd) as branch:
                branch.tokens = ppd.encoder(torch.ones(2, 1, 1))
                out = predicted(unet)
                branch.tokens = None
                with torch.no_grad():
                    predicted(unet)
                out.square().mean().backward()
            gradients.append([parameter.grad for parameter in ppd.parameters()])
        unet.disable_gradient_checkpointing()
        for plain, computed_again in zip(*gradients, strict=True):
            torch.testing.assert_close(plain, computed_again)

    def test_tokens_of_another_shape_are_refused(self, unet):
        with cascade_branch(unet, new_ppd(unet)) as branch:
            branch.tokens = torch.zeros(3, TOKENS, WIDTH)
            with pytest.raises(PPDError, match=r"user tokens of shape \(3, 3, 12\); expected \(2, K, 12\)"):
                predicted(unet)
