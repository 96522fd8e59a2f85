"""A user in SD3 and Flux: their layers, the base bit for bit without a user, and a step of training."""

from __future__ import annotations

import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.dit import dit_branch, dit_layers, dit_width, use_user_in_dit
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User

WIDTH, TOKENS, KINDS = 12, 3, ("sd3", "flux")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(kind: str):
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "flux":
            model = FluxTransformer2DModel(
                patch_size=1,
                in_channels=4,
                num_layers=2,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=WIDTH,
                pooled_projection_dim=10,
                axes_dims_rope=(4, 4, 8),
            )
        else:
            model = SD3Transformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=WIDTH,
                caption_projection_dim=16,
                pooled_projection_dim=10,
                out_channels=4,
                pos_embed_max_size=8,
                qk_norm="rms_norm",
                dual_attention_layers=(0,),
            )
        for parameter in model.parameters():  # gates and the last layer start at zero
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return small(request.param)


def predicted(model, time: float = 0.5, rows: int = 2) -> torch.Tensor:
    text, pooled = (drawn(1, *shape, seed=2).expand(rows, *shape) for shape in ((5, WIDTH), (10,)))
    if "Flux" in type(model).__name__:
        return model(
            hidden_states=drawn(1, 16, 4, seed=1).expand(rows, -1, -1),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=torch.full((rows,), time),
            txt_ids=torch.zeros(5, 3),
            img_ids=torch.zeros(16, 3),
        ).sample
    return model(
        hidden_states=drawn(1, 4, 8, 8, seed=1).expand(rows, -1, -1, -1),
        encoder_hidden_states=text,
        pooled_projections=pooled,
        timestep=torch.full((rows,), 1000 * time),
    ).sample


def new_ppd(model, values: float = 0.0) -> PPD:
    attention = UserAttention(dit_layers(model), WIDTH)
    for place, layer in enumerate(attention.values):
        layer.weight.data += values * drawn(*layer.weight.shape, seed=place)
    return PPD(attention, None, "custom")


def mara(ppd: PPD) -> User:
    return User(drawn(TOKENS, WIDTH, seed=9), ppd.identity, person="mara", base="custom")


class TestLayers:
    def test_true_models(self):
        from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

        with torch.device("meta"):
            sd3 = SD3Transformer2DModel(
                num_layers=24, num_attention_heads=24, joint_attention_dim=4096, caption_projection_dim=1536
            )
            flux = FluxTransformer2DModel(num_single_layers=1)
        for transformer, count, inner in ((sd3, 24, 1536), (flux, 19, 3072)):
            layers = dit_layers(transformer)
            assert len(layers) == count and dit_width(transformer) == 4096
            assert {(layer.query, layer.inner, layer.heads, layer.out) for layer in layers} == {
                (inner, inner, 24, inner)
            }

    def test_another_model_is_refused(self, model):
        with pytest.raises(PPDError, match="into a Linear as into a diffusion transformer"):
            dit_layers(torch.nn.Linear(2, 2))
        fewer = PPD(UserAttention(dit_layers(model)[:1], WIDTH), None, "custom")
        with pytest.raises(PPDError, match="the model has 2 cross-attentions"), dit_branch(model, fewer):
            pass


class TestUse:
    def test_nobody_strength_0_and_values_of_zero_are_the_base_bit_for_bit(self, model):
        ppd, zero = new_ppd(model, values=1.0), new_ppd(model)
        processors = dict(model.attn_processors)
        base = predicted(model)
        for weights, user, strength in ((ppd, None, 1.0), (ppd, mara(ppd), 0.0), (zero, mara(zero), 1.0)):
            with use_user_in_dit(model, weights, user, strength):
                assert torch.equal(predicted(model), base)
        assert model.attn_processors == processors and torch.equal(predicted(model), base)

    def test_the_second_half_of_guidance_sees_the_user_or_all_rows_without_guidance(self, model):
        ppd = new_ppd(model, values=1.0)
        base = predicted(model)
        with use_user_in_dit(model, ppd, mara(ppd)):
            guided = predicted(model)
        with use_user_in_dit(model, ppd, mara(ppd), guidance=False):
            plain = predicted(model)
        assert torch.equal(guided[0], base[0]) and (guided[1] - base[1]).abs().max() > 1e-3
        torch.testing.assert_close(plain[1], guided[1])
        torch.testing.assert_close(plain[0], guided[1])

    def test_it_acts_in_its_part_of_the_schedule(self, model):
        """From 0.25 to 0.75 of the schedule: flow times from 0.75 down to 0.25."""
        ppd = new_ppd(model, values=1.0)
        with use_user_in_dit(model, ppd, mara(ppd), start_percent=0.25, end_percent=0.75):
            # By more than rounding: some processors round the rows of one batch differently.
            acts = [bool(predicted(model, time).diff(dim=0).abs().max() > 1e-4) for time in (0.9, 0.7, 0.3, 0.1)]
        assert acts == [False, True, True, False]

    def test_one_block_by_hand(self, model):
        """What the picture's side gains is W_out softmax(norm(Q) K' / sqrt(d)) V; the text's side nothing."""
        ppd = new_ppd(model, values=1.0)
        layer = dit_layers(model)[0]
        attention = model.get_submodule(layer.name)
        picture, text = drawn(1, 6, layer.query, seed=4), drawn(1, 5, layer.query, seed=5)
        before = attention(picture, text)
        with use_user_in_dit(model, ppd, mara(ppd), guidance=False):
            after = attention(picture, text)
        with torch.no_grad():
            split = (layer.heads, layer.inner // layer.heads)
            query = attention.norm_q(attention.to_q(picture)[0].view(6, *split)).transpose(0, 1)
            keys, values = (
                side[0](mara(ppd).tokens).view(TOKENS, *split).transpose(0, 1)
                for side in (ppd.attention.keys, ppd.attention.values)
            )
            answer = ((query @ keys.mT / split[1] ** 0.5).softmax(-1) @ values).transpose(0, 1).flatten(1)
            expected = answer @ attention.to_out[0].weight.T
        torch.testing.assert_close((after[0] - before[0])[0], expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(after[1], before[1])


class TestTraining:
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_a_step_moves_the_values_only_and_the_reference_stays(self, model, checkpointing, caplog):
        ppd, tokens = new_ppd(model), drawn(2, TOKENS, WIDTH, seed=9).requires_grad_()
        (model.enable_gradient_checkpointing if checkpointing else model.disable_gradient_checkpointing)()
        optimizer = torch.optim.AdamW(ppd.parameters(), lr=1e-2)
        with dit_branch(model, ppd) as branch:
            reference = predicted(model)
            branch.tokens = tokens
            out = predicted(model)
            branch.tokens = None
            assert torch.equal(out, reference) and torch.equal(predicted(model), reference)
            out.square().mean().backward()
            # With values of zero neither keys nor tokens get a gradient yet.
            assert all(bool(layer.weight.grad.any()) for layer in ppd.attention.values)
            optimizer.step()
            branch.tokens = tokens
            out = predicted(model)
            assert not torch.equal(out, reference)
            out.square().mean().backward()
            assert bool(tokens.grad.any())
            branch.tokens = torch.zeros_like(tokens)
            assert torch.equal(predicted(model), reference)
        model.disable_gradient_checkpointing()
        assert not caplog.records

    def test_tokens_of_another_shape_are_refused(self, model):
        with dit_branch(model, new_ppd(model)) as branch:
            branch.tokens = torch.zeros(3, TOKENS, WIDTH)
            with pytest.raises(PPDError, match=r"user tokens of shape \(3, 3, 12\); expected \(2, K, 12\)"):
                predicted(model)
