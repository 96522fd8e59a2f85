"""The core of PPD: users and their blends, layers, user attention, and a PPD's identity and refusals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import EncoderMismatchError, NotEnoughAnswersError, PPDError
from palate.adapters.ppd.attention import UserAttention, attend
from palate.adapters.ppd.layers import LayerShape, base_of, layers_of, standard_layers, width_of
from palate.adapters.ppd.model import PPD, encode_user
from palate.adapters.ppd.user import User, blend_users, require_use
from palate.adapters.studies._shapes import SHAPES
from PIL import Image
from torch import Tensor, nn

LAYERS = (LayerShape("a.attn2", 12, 8, 2, 12), LayerShape("b.attn2", 6, 16, 4, 6))
WIDTH, JOINT = 10, 5


class Mean(nn.Module):
    """The smallest user encoder: the mean difference of the pairs, through one matrix."""

    kind, tokens, width = "pairs", 3, WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.config = {"image_width": JOINT}
        self.weight = nn.Parameter(drawn(JOINT, 3 * WIDTH, seed=5))

    def forward(self, chosen: Tensor, rejected: Tensor, mask: Tensor | None) -> Tensor:
        return ((chosen - rejected).mean(1) @ self.weight).view(len(chosen), 3, WIDTH)


class NamedEncoder:
    """An image encoder of the store's pictures: their mean colour, and a constant."""

    identity, name, dim = "e" * 64, "colours", JOINT
    text_projection = None

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        colours = [torch.tensor([*image.convert("RGB").getpixel((0, 0)), 255.0, 0.0]) / 255 for image in images]
        return nn.functional.normalize(torch.stack(colours), dim=-1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(seed: int = 0) -> UserAttention:
    """One that was trained: its values aren't zero."""
    made = UserAttention(LAYERS, WIDTH, seed)
    for place, layer in enumerate(made.values):
        nn.init.zeros_(layer.weight)
        layer.weight.data += drawn(*layer.weight.shape, seed=seed + 10 + place)
    return made


def new_ppd(**more: str) -> PPD:
    return PPD(attention(), Mean(), "playground", "test", "e" * 64, "colours", **more)


def test_two_tokens_are_attended_to_by_hand() -> None:
    """One head of width 1, query 2; keys 1 and 0: shares e^2/(e^2+1) and 1/(e^2+1); values 10 and 20."""
    answer = attend(torch.tensor([[[2.0]]]), torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[10.0], [20.0]]]), heads=1)
    share = math.exp(2) / (math.exp(2) + 1)
    assert answer.item() == pytest.approx(10 * share + 20 * (1 - share), rel=1e-6)


def test_untrained_attention_answers_exactly_zero_and_so_do_zero_tokens() -> None:
    untrained, trained = UserAttention(LAYERS, WIDTH), attention()
    query = drawn(2, 7, 8, seed=1)
    for model, tokens in ((untrained, drawn(2, 3, WIDTH)), (trained, torch.zeros(2, 3, WIDTH))):
        assert torch.equal(attend(query, *model.project(0, tokens), 2), torch.zeros(2, 7, 8))


def test_the_gradient_reaches_the_values_first() -> None:
    untrained = UserAttention(LAYERS, WIDTH)
    attend(drawn(1, 7, 8), *untrained.project(0, drawn(1, 3, WIDTH)), 2).square().sum().backward()
    assert not untrained.values[0].weight.grad.any()  # of a square at 0
    attend(drawn(1, 7, 8), *untrained.project(0, drawn(1, 3, WIDTH)), 2).sum().backward()
    assert untrained.values[0].weight.grad.any() and not untrained.keys[0].weight.grad.any()


def test_the_order_of_the_tokens_is_irrelevant() -> None:
    trained, tokens, query = attention(), drawn(1, 4, WIDTH), drawn(1, 7, 16)
    one = attend(query, *trained.project(1, tokens), 4)
    other = attend(query, *trained.project(1, tokens[:, [2, 0, 3, 1]]), 4)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_folded_is_what_the_query_and_the_output_projection_give() -> None:
    trained, tokens, hidden = attention(), drawn(4, WIDTH, seed=2), drawn(2, 7, 12, seed=3)
    to_q, to_out = drawn(8, 12, seed=4), drawn(12, 8, seed=5)
    whole = attend(hidden @ to_q.T, *trained.project(0, tokens[None]), 2) @ to_out.T
    folded = trained.fold(0, tokens, to_q, to_out)
    assert folded.keys.shape == (2, 4, 12) and folded.values.shape == (2, 4, 12)
    torch.testing.assert_close(folded(hidden), whole, rtol=1e-5, atol=1e-5)
    assert folded.to("cpu", torch.float16)(hidden.half()).dtype == torch.float16


def test_making_attention_leaves_the_global_source_of_chance_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = UserAttention(LAYERS, WIDTH, 3), UserAttention(LAYERS, WIDTH, 3), UserAttention(LAYERS, WIDTH, 4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.keys[1].weight, same.keys[1].weight)
    assert not torch.equal(one.keys[1].weight, other.keys[1].weight)


@pytest.mark.parametrize(("base", "count"), [("sd15", 16), ("sdxl", 70)])
def test_layers_of_the_true_unets(base: str, count: int) -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SHAPES[base].unet)
    layers = layers_of(unet)
    assert len(layers) == count and layers == standard_layers(base) and base_of(layers) == base
    assert width_of(unet) == {"sd15": 768, "sdxl": 2048}[base]
    assert [f"{layer.name}.processor" for layer in layers] == [n for n in unet.attn_processors if "attn2" in n]


def test_a_model_without_cross_attention_is_named() -> None:
    with pytest.raises(PPDError, match=r"into a Linear: found no cross-attention.*UNet2DConditionModel"):
        layers_of(nn.Linear(2, 2))
    with pytest.raises(PPDError, match="'flux'; expected one of sd15, sdxl"):
        standard_layers("flux")


def test_shapes_alone_take_no_memory() -> None:
    with torch.device("meta"):
        made = UserAttention(standard_layers("sdxl"), 2048)
    assert all(weight.is_meta for weight in made.parameters()) and len(list(made.parameters())) == 140


def test_blending_adds_up_with_any_weights() -> None:
    one, two = User(torch.full((2, 3), 1.0), "p", person="mara"), User(torch.full((2, 3), 10.0), "p", person="ann")
    blend = blend_users([one, two], [2.0, -0.5])
    assert torch.equal(blend.tokens, torch.full((2, 3), -3.0))  # 2 * 1 - 0.5 * 10
    assert blend.person == "2 mara + -0.5 ann" and blend.negative is None
    assert torch.equal(blend_users([one], [1.0]).tokens, one.tokens)
    assert not blend_users([one, one], [1.0, -1.0]).tokens.any()


def test_blending_negatives_leaves_out_who_has_none() -> None:
    one = User(torch.ones(2, 3), "p", negative=torch.full((4, 3), 2.0))
    blend = blend_users([one, User(torch.ones(2, 3), "p")], [0.5, 3.0])
    assert blend.negative is not None and torch.equal(blend.negative, torch.ones(4, 3))


@pytest.mark.parametrize(
    ("others", "weights", "words"),
    [
        ([], [1.0, 2.0], "1 user.* and 2 weight"),
        ([User(torch.ones(2, 3), "q")], [1.0, 1.0], "made by two PPDs"),
        ([User(torch.ones(5, 3), "p")], [1.0, 1.0], r"\(2, 3\) tokens and \(5, 3\)"),
        ([], [math.nan], "expected finite numbers"),
    ],
)
def test_blends_that_make_no_sense_are_refused(others: list[User], weights: list[float], words: str) -> None:
    with pytest.raises(PPDError, match=words):
        blend_users([User(torch.ones(2, 3), "p"), *others], weights)


def test_a_user_holds_numbers_of_one_width() -> None:
    with pytest.raises(PPDError, match="NaN or infinity"):
        User(torch.tensor([[math.nan]]), "p")
    with pytest.raises(PPDError, match="negative tokens have shape"):
        User(torch.ones(2, 3), "p", negative=torch.ones(2, 4))
    with pytest.raises(PPDError, match="at least one token"):
        User(torch.ones(0, 3), "p")


@pytest.mark.parametrize("use", [(100.0, 0.0, 1.0), (math.nan, 0.0, 1.0), (1.0, 0.5, 0.4), (1.0, -0.1, 1.0)])
def test_strengths_and_schedules_out_of_range_are_refused(use: tuple[float, float, float]) -> None:
    with pytest.raises(PPDError, match="expected"):
        require_use(*use)
    require_use(-5.0, 0.2, 0.2)


def test_the_identity_is_the_weights_in_fp16() -> None:
    ppd, same = new_ppd(), new_ppd(created="2026-01-01")
    assert ppd.identity == same.identity and len(ppd.identity) == 64
    before = ppd.identity
    half = new_ppd().half()
    assert half.identity == before
    with torch.no_grad():
        ppd.attention.values[1].weight[0, 0] += 1
    assert ppd.identity != before
    with torch.no_grad():
        ppd.attention.values[1].weight[0, 0] = math.inf
    with pytest.raises(PPDError, match=r"attention.values.1.weight holds NaN"):
        _ = ppd.identity


def test_a_user_comes_from_pairs_in_any_order() -> None:
    ppd, chosen, rejected = new_ppd(), drawn(4, JOINT, seed=1), drawn(4, JOINT, seed=2)
    user = ppd.user(chosen, rejected, "mara")
    again = ppd.user(chosen.flip(0), rejected.flip(0), "mara")
    assert (user.count, user.width, user.pairs, user.base, user.ppd) == (3, WIDTH, 4, "playground", ppd.identity)
    torch.testing.assert_close(user.tokens, again.tokens)
    ppd.takes(user)


@pytest.mark.parametrize(
    ("chosen", "rejected", "words"),
    [
        (torch.zeros(0, JOINT), torch.zeros(0, JOINT), "at least one pair"),
        (torch.ones(2, JOINT), torch.zeros(3, JOINT), r"\(2, 5\) and \(3, 5\)"),
        (torch.full((1, JOINT), math.nan), torch.zeros(1, JOINT), "NaN"),
        (torch.ones(2, JOINT), torch.ones(2, JOINT), "each of the 2 pairs are the same"),
        (torch.eye(5)[:2], torch.eye(5)[[1, 0]], "each of the 2 answers is taken back"),
        (torch.ones(2, 7), torch.zeros(2, 7), "vectors of width 7 don't fit.*colours"),
    ],
)
def test_pairs_that_say_nothing_are_refused(chosen: Tensor, rejected: Tensor, words: str) -> None:
    with pytest.raises(PPDError, match=words):
        new_ppd().user(chosen, rejected, "mara")


def test_answers_that_contradict_each_other_in_part_still_count() -> None:
    same, other = torch.eye(5)[[0, 1, 0]], torch.eye(5)[[1, 0, 1]]
    assert new_ppd().user(same, other).tokens.any()


def test_a_ppd_without_an_encoder_says_so() -> None:
    with pytest.raises(PPDError, match="has no user encoder"):
        PPD(attention(), None, "sd15").user(torch.ones(1, 2), torch.zeros(1, 2))
    with pytest.raises(PPDError, match="for 'flux'; expected one of"):
        PPD(attention(), None, "flux")
    with pytest.raises(PPDError, match="width 10, its attention takes 4"):
        PPD(UserAttention(LAYERS, 4), Mean(), "sd15")


def test_other_layers_and_users_are_refused_by_name() -> None:
    ppd = new_ppd()
    ppd.fits(LAYERS, WIDTH)
    with pytest.raises(PPDError, match=r"of the family sdxl, has 70 cross-attentions; expected the 2 of playground"):
        ppd.fits(standard_layers("sdxl"))
    with pytest.raises(PPDError, match=r"12 to 8 to 12 channels in 4 heads at a.attn2; expected .* in 2 heads"):
        ppd.fits((LayerShape("a.attn2", 12, 8, 4, 12), LAYERS[1]))
    with pytest.raises(PPDError, match="text tokens of width 768; expected 10"):
        ppd.fits(LAYERS, 768)
    with pytest.raises(PPDError, match="have width 3, made for sdxl; expected 10, for playground"):
        ppd.takes(User(torch.ones(2, 3), "p", base="sdxl"))
    with pytest.raises(PPDError, match="was made by the PPD pppp"):
        ppd.takes(User(torch.ones(2, WIDTH), "pppp"))


def test_a_persons_newest_answers_make_the_embedding(tmp_path: Path) -> None:
    store, ppd = PreferenceStore(tmp_path), new_ppd()
    colours = [store.add_image(Image.new("RGB", (8, 8), colour)) for colour in ("red", "green", "blue", "white")]
    store.add(Comparison("mara", colours[0], colours[1], "left"))
    store.add(Comparison("mara", colours[2], colours[3], "right"))
    store.add(Comparison("mara", colours[0], colours[3], "tie"))
    store.add(Comparison("mara", colours[1], colours[2], "left"))
    store.add(Comparison("mara", colours[2], colours[1], "tie"))  # the last answer counts: no preference
    user, newest = encode_user(store, NamedEncoder(), "mara", ppd), encode_user(store, NamedEncoder(), "mara", ppd, 1)
    white, blue = NamedEncoder().encode_images([Image.new("RGB", (8, 8), c) for c in ("white", "blue")])
    assert (user.pairs, user.person, newest.pairs) == (2, "mara", 1)
    torch.testing.assert_close(newest.tokens, ppd.user(white[None], blue[None]).tokens)


def test_no_answers_and_other_encoders_are_refused(tmp_path: Path) -> None:
    store, ppd = PreferenceStore(tmp_path), new_ppd()
    with pytest.raises(NotEnoughAnswersError, match="found none; expected answers"):
        encode_user(store, NamedEncoder(), "mara", ppd)
    ppd.image_encoder = "f" * 64
    with pytest.raises(EncoderMismatchError, match="ffffffffffff"):
        encode_user(store, NamedEncoder(), "mara", ppd)
    with pytest.raises(PPDError, match="from 0 answers"):
        encode_user(store, NamedEncoder(), "mara", ppd, 0)
