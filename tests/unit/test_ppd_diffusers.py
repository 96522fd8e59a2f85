"""A user in diffusers UNets: exactly off where it is off, the block's own query and output, and training through it."""

from __future__ import annotations

import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.attention import UserAttention, attend
from palate.adapters.ppd.diffusers import use_user, user_branch
from palate.adapters.ppd.layers import layers_of, width_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User
from torch import Tensor

TEXT = 24


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def new_unet(**more: object):
    """A UNet like SD1.5's, or with what makes it one like SDXL's."""
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": TEXT,
        "norm_num_groups": 4,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(**config | more).eval().requires_grad_(False)


def new_ppd(unet, trained: bool = True, seed: int = 1) -> PPD:
    attention = UserAttention(layers_of(unet), width_of(unet), seed)
    if trained:
        for place, value in enumerate(attention.values):
            value.weight.data += 0.3 * drawn(*value.weight.shape, seed=seed + place)
    return PPD(attention, None, "custom", "test")


def someone(ppd: PPD, count: int = 3, seed: int = 7, **more: object) -> User:
    return User(drawn(count, TEXT, seed=seed), ppd.identity, person="mara", **more)


def predicted(unet, rows: int = 2, timestep: float = 500.0, **named: object) -> Tensor:
    with torch.no_grad():
        return unet(
            drawn(rows, 4, 8, 8, seed=3).to(unet.dtype),
            timestep,
            encoder_hidden_states=drawn(rows, 5, TEXT, seed=4).to(unet.dtype),
            **named,
        ).sample


def test_where_a_user_is_off_the_base_is_there_bit_for_bit() -> None:
    unet = new_unet()
    ppd, untrained = new_ppd(unet), new_ppd(unet, trained=False)
    base, nobody = predicted(unet), User(torch.zeros(3, TEXT), ppd.identity)
    for model, user, strength in (
        (ppd, None, 1.0),
        (ppd, nobody, 1.0),
        (ppd, someone(ppd), 0.0),
        (untrained, someone(untrained), 1.0),
    ):
        with use_user(unet, model, user, strength):
            assert torch.equal(predicted(unet), base)


def test_the_unconditional_half_is_nobodys() -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    base = predicted(unet, 4)
    with use_user(unet, ppd, someone(ppd)):
        found = predicted(unet, 4)
    assert torch.equal(found[:2], base[:2])
    assert not torch.isclose(found[2:], base[2:], atol=1e-4).all(dim=(1, 2, 3)).any()


def test_half_a_batch_is_refused() -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    with use_user(unet, ppd, someone(ppd)), pytest.raises(PPDError, match=r"in a batch of 3.*guidance=False"):
        predicted(unet, 3)


def test_without_guidance_all_rows_see_the_user() -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    with use_user(unet, ppd, someone(ppd)):
        halves = predicted(unet, 4)
    with use_user(unet, ppd, someone(ppd), guidance=False):
        alone = predicted(unet, 4)
    torch.testing.assert_close(alone[2:], halves[2:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(alone[:2], halves[:2])


@pytest.mark.parametrize("count", [3, 2])
def test_negative_tokens_act_on_the_unconditional_half(count: int) -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    away = User(drawn(count, TEXT, seed=9), ppd.identity)
    with use_user(unet, ppd, someone(ppd, negative=away.tokens)):
        found = predicted(unet, 4)
    with use_user(unet, ppd, away, guidance=False):
        first = predicted(unet, 4)[:2]
    with use_user(unet, ppd, someone(ppd), guidance=False):
        second = predicted(unet, 4)[2:]
    torch.testing.assert_close(found, torch.cat([first, second]), rtol=1e-4, atol=1e-5)


def test_the_query_and_the_output_projection_are_the_blocks_own() -> None:
    """One block alone: attention(text) + to_out(answer of the user to to_q), the output's bias once."""
    unet = new_unet()
    ppd, hidden, text = new_ppd(unet), drawn(2, 6, 8, seed=5), drawn(2, 5, TEXT, seed=6)
    layer, user = ppd.attention.layers[0], someone(new_ppd(unet))
    block = unet.get_submodule(layer.name)
    with torch.no_grad():
        plain = block(hidden, text)
        answer = attend(block.to_q(hidden), *ppd.attention.project(0, user.tokens[None]), layer.heads)
        wanted = plain + answer @ block.to_out[0].weight.T
        with use_user(unet, ppd, user, guidance=False):
            torch.testing.assert_close(block(hidden, text), wanted, rtol=1e-5, atol=1e-6)
            folded = ppd.attention.fold(0, user.tokens, block.to_q.weight, block.to_out[0].weight)
            torch.testing.assert_close(block(hidden, text), plain + folded(hidden), rtol=1e-5, atol=1e-6)


def test_strength_multiplies_what_a_block_adds() -> None:
    unet = new_unet()
    ppd, hidden, text = new_ppd(unet), drawn(2, 6, 8, seed=5), drawn(2, 5, TEXT, seed=6)
    block = unet.get_submodule(ppd.attention.layers[0].name)
    added = {}
    for strength in (1.0, -2.0):
        with torch.no_grad(), use_user(unet, ppd, someone(ppd), strength, guidance=False):
            added[strength] = block(hidden, text)
        added[strength] -= block(hidden, text)
    torch.testing.assert_close(added[-2.0], -2.0 * added[1.0], rtol=1e-4, atol=1e-5)


def test_a_user_acts_in_its_part_of_the_schedule_only() -> None:
    """From 20 to 60 %: timesteps 799.2 down to 399.6 of 999."""
    unet = new_unet()
    ppd = new_ppd(unet)
    with use_user(unet, ppd, someone(ppd), start_percent=0.2, end_percent=0.6):
        during = {t: predicted(unet, timestep=t) for t in (999.0, 800.0, 799.0, 400.0, 399.0, 0.0)}
    acts = {t: not torch.equal(found, predicted(unet, timestep=t)) for t, found in during.items()}
    assert acts == {999.0: False, 800.0: False, 799.0: True, 400.0: True, 399.0: False, 0.0: False}


def test_the_order_of_the_tokens_is_irrelevant() -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    user = someone(ppd, 4)
    turned = User(user.tokens[[3, 1, 0, 2]], user.ppd)
    with use_user(unet, ppd, user):
        one = predicted(unet)
    with use_user(unet, ppd, turned):
        torch.testing.assert_close(predicted(unet), one, rtol=1e-4, atol=1e-5)


def test_the_model_is_afterwards_as_it_was_also_after_an_error() -> None:
    unet = new_unet()
    ppd, base, before = new_ppd(unet), predicted(unet), dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="stop"), use_user(unet, ppd, someone(ppd), end_percent=0.5):
        raise RuntimeError("stop")
    with user_branch(unet, ppd) as branch:
        branch.tokens = drawn(2, 3, TEXT)
    assert unet.attn_processors == before and not unet._forward_pre_hooks and torch.equal(predicted(unet), base)


def test_two_ppds_add_up_in_any_order() -> None:
    unet = new_unet()
    one, two = new_ppd(unet, seed=1), new_ppd(unet, seed=30)
    with use_user(unet, one, someone(one)), use_user(unet, two, someone(two, seed=8)):
        found = predicted(unet)
    with use_user(unet, two, someone(two, seed=8)), use_user(unet, one, someone(one)):
        torch.testing.assert_close(predicted(unet), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("processor", ["AttnProcessor", "SlicedAttnProcessor", "FusedAttnProcessor2_0"])
def test_any_processor_underneath(processor: str) -> None:
    from diffusers.models import attention_processor

    unet = new_unet()
    ppd = new_ppd(unet)
    with use_user(unet, ppd, someone(ppd)):
        wanted = predicted(unet)
    if processor.startswith("Fused"):
        unet.fuse_qkv_projections()
    else:
        arguments = (2,) if processor.startswith("Sliced") else ()
        unet.set_attn_processor(getattr(attention_processor, processor)(*arguments))
    with use_user(unet, ppd, someone(ppd)):
        torch.testing.assert_close(predicted(unet), wanted, rtol=1e-4, atol=1e-5)


def test_an_ip_adapter_underneath_adds_up() -> None:
    """An image's keys and values are a user's: the same tokens as image and as user give the same sum."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    unet = new_unet()
    ppd, hidden, text, image = new_ppd(unet), drawn(2, 6, 8, seed=5), drawn(2, 5, TEXT, seed=6), drawn(1, 3, TEXT)
    layer = ppd.attention.layers[0]
    block = unet.get_submodule(layer.name)
    processor = IPAdapterAttnProcessor2_0(layer.inner, TEXT, num_tokens=(3,))
    processor.to_k_ip[0].weight.data = ppd.attention.keys[0].weight.data
    processor.to_v_ip[0].weight.data = ppd.attention.values[0].weight.data
    user = User(image[0], ppd.identity)
    with torch.no_grad():
        plain = block(hidden, text)
        block.set_processor(processor)
        images = [image.expand(2, 1, 3, TEXT)]
        added = block(hidden, (text, images)) - plain
        with use_user(unet, ppd, user, guidance=False):
            both = block(hidden, (text, images))
    torch.testing.assert_close(both, plain + 2 * added, rtol=1e-5, atol=1e-6)
    assert block.processor is processor


def test_a_lora_on_the_block_changes_the_users_query_and_output_too() -> None:
    from peft import LoraConfig

    unet, merged = new_unet(), new_unet()
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_out.0"], init_lora_weights=False))
    ppd = new_ppd(merged)
    assert layers_of(unet) == layers_of(merged)
    for name, module in unet.named_modules():
        if hasattr(module, "get_delta_weight"):
            merged.get_submodule(name).weight.data += module.get_delta_weight("default").detach()
    with use_user(unet, ppd, someone(ppd)), use_user(merged, ppd, someone(ppd)):
        torch.testing.assert_close(predicted(unet), predicted(merged), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_takes_a_user_in_float32(precision: torch.dtype) -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    with use_user(unet, ppd, someone(ppd)):
        exact = predicted(unet)
    unet = unet.to(precision)
    with use_user(unet, ppd, someone(ppd)):
        found = predicted(unet)
    assert found.dtype == precision and ppd.attention.keys[0].weight.dtype == torch.float32
    torch.testing.assert_close(found.float(), exact, rtol=0.1, atol=0.1)


def test_a_unet_like_sdxls() -> None:
    unet = new_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=40 + 6 * 8,
    )
    ppd = new_ppd(unet)
    more = {"added_cond_kwargs": {"text_embeds": drawn(2, 40), "time_ids": torch.ones(2, 6)}}
    base = predicted(unet, **more)
    assert len(ppd.attention.layers) == 2 * (1 + 2) + 2
    with use_user(unet, ppd, someone(ppd)):
        found = predicted(unet, **more)
    assert torch.equal(found[:1], base[:1]) and not torch.allclose(found[1:], base[1:])


def test_rows_of_one_batch_have_users_of_their_own() -> None:
    unet = new_unet()
    ppd, base = new_ppd(unet), predicted(unet, 3)
    users = drawn(2, 3, TEXT)
    with user_branch(unet, ppd) as branch:
        assert torch.equal(predicted(unet, 3), base)
        branch.tokens = torch.stack([users[0], torch.zeros(3, TEXT), users[1]])
        found = predicted(unet, 3)
        branch.tokens = None
        assert torch.equal(predicted(unet, 3), base)
    assert torch.equal(found[1], base[1])
    for row, user in ((0, users[0]), (2, users[1])):
        with use_user(unet, ppd, User(user, ppd.identity), guidance=False):
            torch.testing.assert_close(found[row], predicted(unet, 3)[row], rtol=1e-4, atol=1e-5)


def test_one_row_of_tokens_is_for_all_and_another_number_is_refused() -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    with user_branch(unet, ppd) as branch:
        branch.tokens = drawn(1, 3, TEXT)
        one = predicted(unet, 3)
        branch.tokens = branch.tokens.repeat(3, 1, 1)
        torch.testing.assert_close(predicted(unet, 3), one)
        branch.tokens = drawn(2, 3, TEXT)
        with pytest.raises(PPDError, match=r"shape \(2, 3, 24\); expected \(3, K, 24\)"):
            predicted(unet, 3)


def gradients(checkpointing: bool, precision: torch.dtype = torch.float32) -> list[Tensor]:
    """Of a loss whose reference is computed between forward and backward."""
    unet = new_unet().train().to(precision)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    ppd, tokens = new_ppd(unet), drawn(2, 3, TEXT).requires_grad_()
    noisy, text = drawn(2, 4, 8, 8, seed=3).to(precision), drawn(2, 5, TEXT, seed=4).to(precision)
    with user_branch(unet, ppd) as branch:
        branch.tokens = tokens
        policy = unet(noisy, 500, encoder_hidden_states=text).sample
        branch.tokens = None
        with torch.no_grad():
            reference = unet(noisy, 500, text).sample
        (policy - reference).float().square().sum().backward()
    assert all(parameter.grad is None for parameter in unet.parameters())
    return [tokens.grad, *(parameter.grad for parameter in ppd.parameters())]


def test_gradient_checkpointing_sees_the_tokens_that_the_forward_pass_saw() -> None:
    for found, wanted in zip(gradients(True), gradients(False), strict=True):
        assert wanted.any()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_training_in_bfloat16_gives_the_float32_attention_gradients() -> None:
    found = gradients(True, torch.bfloat16)
    assert all(part.dtype == torch.float32 and part.any() and part.isfinite().all() for part in found)


def test_an_untrained_values_gradient_is_not_zero() -> None:
    unet = new_unet()
    ppd = new_ppd(unet, trained=False)
    with user_branch(unet, ppd) as branch:
        branch.tokens = drawn(2, 3, TEXT)
        unet(drawn(2, 4, 8, 8), 500, drawn(2, 5, TEXT)).sample.sum().backward()
    assert all(value.weight.grad.any() for value in ppd.attention.values)
    assert not any(key.weight.grad.any() for key in ppd.attention.keys)


def test_what_does_not_fit_is_refused_before_anything_is_put_on() -> None:
    unet = new_unet()
    ppd = new_ppd(unet)
    other, before = new_ppd(new_unet(block_out_channels=(16, 16))), dict(unet.attn_processors)
    for model, user, strength, words in (
        (ppd, someone(ppd), 100.0, "strength 100; expected -5 to 5"),
        (ppd, User(torch.ones(2, 7), ppd.identity), 1.0, "width 7"),
        (ppd, User(torch.ones(2, TEXT), "other"), 1.0, "made by the PPD other"),
        (other, None, 0.0, "the model has 8 to 8 to 8 channels in 2 heads"),
    ):
        with pytest.raises(PPDError, match=words), use_user(unet, model, user, strength):
            raise AssertionError("it was put on")
    assert unet.attn_processors == before
    with pytest.raises(PPDError, match="no cross-attention"), use_user(torch.nn.Linear(2, 2), ppd, someone(ppd)):
        raise AssertionError("it was put on")
