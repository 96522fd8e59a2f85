"""Files of users and of PPD weights: the same bytes, the same numbers, and whatever doesn't fit is refused by name."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import EncoderMismatchError, FileFormatError, PPDError, StoreError
from palate.adapters.files import describe_ppd, describe_user, load_ppd, load_user, save_ppd, save_user
from palate.adapters.files.writing import encoded
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.layers import LayerShape, standard_layers
from palate.adapters.ppd.learned import LearnedTokens
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.adapters.ppd.user import User
from palate.adapters.ppd.vlm import VLMEncoder
from torch import Tensor, nn

LAYERS = (LayerShape("a.attn2", 12, 8, 2, 12), LayerShape("b.attn2", 6, 16, 4, 6))
WIDTH, JOINT = 10, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def new_ppd(encoder: nn.Module | None = None, **more: str) -> PPD:
    attention = UserAttention(LAYERS, WIDTH)
    for place, value in enumerate(attention.values):
        value.weight.data += drawn(*value.weight.shape, seed=place)
    own = PairsEncoder(JOINT, WIDTH, tokens=3, hidden=32) if encoder is None else encoder
    return PPD(attention, own, "playground", "test", "e" * 64, "colours", "2026-11-22", **more)


def mara(**more: object) -> User:
    return User(drawn(3, WIDTH), "p" * 64, None, "mara", 4, "e" * 64, "colours", "sd15", "2026-11-22", **more)


def rewritten(file: Path, change: dict[str, str | None], tensors: dict[str, Tensor | None] | None = None) -> Path:
    """The same file with other text or tensors; None takes one out."""
    from safetensors import safe_open

    with safe_open(str(file), "pt") as opened:
        metadata, found = opened.metadata() | change, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    found |= tensors or {}
    kept = {name: tensor for name, tensor in found.items() if tensor is not None}
    file.write_bytes(encoded(kept, {key: text for key, text in metadata.items() if text is not None}))
    return file


def test_a_user_comes_back_bit_for_bit_from_kilobytes(tmp_path: Path) -> None:
    user = User(**vars(mara()) | {"negative": drawn(2, WIDTH, seed=1)})
    file = save_user(user, tmp_path / "mara")
    again = load_user(file)
    assert file.name == "mara.safetensors" and file.stat().st_size < 2000
    assert torch.equal(again.tokens, user.tokens) and torch.equal(again.negative, user.negative)
    assert [
        getattr(again, key) for key in ("ppd", "person", "pairs", "encoder", "encoder_name", "base", "created")
    ] == [
        "p" * 64,
        "mara",
        4,
        "e" * 64,
        "colours",
        "sd15",
        "2026-11-22",
    ]
    said = describe_user(file)
    assert (said.person, said.tokens, said.width, said.base, said.size) == (
        "mara",
        3,
        WIDTH,
        "sd15",
        file.stat().st_size,
    )


def test_the_same_user_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = save_user(mara(), tmp_path / "one"), save_user(mara(), tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()


def test_a_user_of_sdxl_is_kilobytes(tmp_path: Path) -> None:
    assert save_user(User(drawn(4, 2048), "p"), tmp_path / "sdxl").stat().st_size < 34_000


@pytest.mark.parametrize(
    ("change", "tensors", "words"),
    [
        ({"format": "palate.taste"}, {}, "its format is 'palate.taste'; expected 'palate.user'"),
        ({"format": None}, {}, "its format is none"),
        ({"version": "2"}, {}, "format 2; expected 1. Update Palate"),
        ({"version": "x"}, {}, "'version' is 'x'"),
        ({"ppd": ""}, {}, "doesn't say which PPD"),
        ({"pairs": "-1"}, {}, "'pairs' is '-1'"),
        ({}, {"tokens": None}, "no 'tokens'"),
        ({}, {"tokens": None, "negative": torch.ones(2, WIDTH)}, "no 'tokens'"),
        ({}, {"tokens": torch.ones(3)}, r"'tokens' are F32 of shape \(3,\)"),
        ({}, {"tokens": torch.ones(3, WIDTH).half()}, "'tokens' are F16"),
        ({}, {"negative": torch.ones(2, 7)}, r"'negative' are F32 of shape \(2, 7\)"),
        ({}, {"more": torch.ones(2, WIDTH)}, "it holds 'more'"),
        ({}, {"tokens": torch.full((3, WIDTH), math.nan)}, "NaN"),
        ({}, {"tokens": torch.ones(5000, WIDTH)}, "at most 4096 tokens"),
    ],
)
def test_a_user_file_that_is_none_is_refused(
    tmp_path: Path, change: dict[str, str | None], tensors: dict[str, Tensor | None], words: str
) -> None:
    file = rewritten(save_user(mara(), tmp_path / "mara"), change, tensors)
    with pytest.raises(FileFormatError, match=words):
        load_user(file)


def test_a_user_file_is_held_against_its_ppd(tmp_path: Path) -> None:
    ppd = new_ppd()
    user = ppd.user(drawn(4, JOINT), drawn(4, JOINT, seed=1), "mara")
    file = save_user(user, tmp_path / "mara")
    assert torch.equal(load_user(file, ppd).tokens, user.tokens)
    with pytest.raises(PPDError, match="was made by the PPD"):
        load_user(file, new_ppd(VLMEncoder(2, 3, WIDTH)))
    with pytest.raises(PPDError, match="tokens have width 7, made for sdxl; expected 10, for playground"):
        load_user(save_user(User(torch.ones(2, 7), "p", base="sdxl"), tmp_path / "other"), ppd)


def test_a_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    file = save_user(mara(), tmp_path / "mara")
    before = file.read_bytes()
    with pytest.raises(StoreError):
        save_user(mara(), file / "below")
    with pytest.raises(PPDError, match="holds NaN"):
        broken = new_ppd()
        broken.attention.keys[0].weight.data[0, 0] = math.nan
        save_ppd(broken, file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "encoder",
    [
        PairsEncoder(JOINT, WIDTH, tokens=3, hidden=32, seed=3),
        VLMEncoder(2, 3, WIDTH),
        LearnedTokens(["red", "round"], WIDTH),
    ],
)
def test_a_ppd_comes_back_with_its_identity(tmp_path: Path, encoder: nn.Module) -> None:
    ppd = new_ppd(encoder)
    file = save_ppd(ppd, tmp_path / "test.safetensors")
    again, said = load_ppd(file), describe_ppd(file)
    assert again.identity == ppd.identity == said.identity
    assert again.attention.layers == said.layers == LAYERS and again.encoder.config == encoder.config
    assert (again.base, again.name, again.image_encoder, again.image_encoder_name, again.created) == (
        "playground",
        "test",
        "e" * 64,
        "colours",
        "2026-11-22",
    )
    assert (said.kind, said.width, said.size) == (encoder.kind, WIDTH, file.stat().st_size)
    for name, tensor in ppd.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.half().float()), name
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_the_same_ppd_gives_the_same_bytes_and_the_same_users(tmp_path: Path) -> None:
    file = save_ppd(new_ppd(), tmp_path / "one")
    again = load_ppd(file)
    assert save_ppd(again, tmp_path / "two").read_bytes() == file.read_bytes()
    with torch.inference_mode():
        user = load_ppd(file).user(drawn(4, JOINT), drawn(4, JOINT, seed=1))
    assert torch.equal(user.tokens, again.user(drawn(4, JOINT), drawn(4, JOINT, seed=1)).tokens)
    half = load_ppd(file, precision=torch.float16)
    assert half.attention.keys[0].weight.dtype == torch.float16 and half.identity == again.identity
    torch.testing.assert_close(
        half.user(drawn(4, JOINT), drawn(4, JOINT, seed=1)).tokens, user.tokens, rtol=0.05, atol=0.05
    )


def test_a_ppd_without_an_encoder_comes_back(tmp_path: Path) -> None:
    ppd = PPD(UserAttention(standard_layers("sd15")[:1], 768), None, "sd15")
    again = load_ppd(save_ppd(ppd, tmp_path / "plain"))
    assert again.encoder is None and again.identity == ppd.identity


def test_another_image_encoder_is_refused_by_name(tmp_path: Path) -> None:
    file = save_ppd(new_ppd(), tmp_path / "test")
    assert load_ppd(file, "e" * 64).base == "playground"
    with pytest.raises(EncoderMismatchError, match=r"image encoder 'colours' \(eeeeeeeeeeee\); the one in use is ffff"):
        load_ppd(file, "f" * 64)


@pytest.mark.parametrize(
    ("change", "tensors", "words"),
    [
        ({"format": "palate.user"}, {}, "expected 'palate.ppd'"),
        ({"version": "2"}, {}, "format 2; expected 1"),
        ({"base": "flux"}, {}, "its base is 'flux'; expected one of playground, sd15"),
        ({"kind": "oracle"}, {}, "of the kind 'oracle'; expected one of pairs, vlm, learned"),
        ({"config": "[]"}, {}, "'config' is broken"),
        ({"config": '{"hidden": 999999999999}'}, {}, "'config' is broken"),
        ({"config": '{"layers": 99999}'}, {}, "'config' is broken"),
        ({"config": '{"layers": "x"}'}, {}, "'config' is broken"),
        ({"config": '{"hidden": 1e300}'}, {}, "'config' is broken"),
        ({"config": "[" * 3000}, {}, "'config' is broken"),
        ({"config": '{"image_width": 5}'}, {}, "can't be built"),
        ({"layer.1": "b.attn2 6 16 3 6"}, {}, "3 heads for 16 channels"),
        ({"layer.1": "b.attn2 6 16 2 6"}, {}, "numbers are those of"),
        ({"layer.1": "b.attn2 6"}, {}, "'layer.1' is broken"),
        ({"layer.1": None}, {}, r"attention.keys.1.weight' is F16.*expected none of this name"),
        ({"layer.2": "c.attn2 6 16 4 6"}, {}, r"attention.keys.2.weight' is missing; expected F16 of shape \(16, 10\)"),
        ({"layer.0": None, "layer.1": None}, {}, "has 0 layers"),
        ({"width": "9"}, {}, "tokens of width 10, its attention takes 9"),
        ({"identity": "0" * 64}, {}, "its header says 000000000000; expected the same. It is damaged"),
        ({}, {"attention.keys.0.weight": torch.ones(8, 9)}, r"is F32 of shape \(8, 9\); expected F16 of shape"),
        ({}, {"attention.keys.0.weight": torch.ones(8, 10).half()}, "It is damaged"),
        ({}, {"attention.keys.0.weight": torch.full((8, 10), math.nan)}, "keys.0.weight holds NaN"),
    ],
)
def test_ppd_weights_of_another_layout_are_refused(
    tmp_path: Path, change: dict[str, str | None], tensors: dict[str, Tensor | None], words: str
) -> None:
    file = rewritten(save_ppd(new_ppd(), tmp_path / "test"), change, tensors)
    with pytest.raises(FileFormatError, match=words):
        load_ppd(file)


def test_no_file_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04" + b"x" * 20)
    (tmp_path / "short.safetensors").write_bytes(b"")
    for name, words in (
        ("none", "no such file"),
        ("pickle.safetensors", "a pickle"),
        ("short.safetensors", "no safet"),
    ):
        for read in (load_ppd, load_user, describe_ppd, describe_user):
            with pytest.raises(FileFormatError, match=words):
                read(tmp_path / name)


def test_an_ip_adapters_attention_has_no_file_of_this_kind(tmp_path: Path) -> None:
    class Foreign(nn.Module):
        kind, tokens, width, config = "ip_adapter", 4, WIDTH, {}

    with pytest.raises(PPDError, match="of the kind 'ip_adapter'; expected one of pairs, vlm, learned"):
        save_ppd(new_ppd(Foreign()), tmp_path / "test")


@lru_cache(maxsize=2)
def good(kind: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = save_user(mara(), f"{folder}/x") if kind == "user" else save_ppd(new_ppd(), f"{folder}/x")
        return file.read_bytes()


@pytest.mark.parametrize("kind", ["user", "ppd"])
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_bytes_never_end_in_anything_but_a_message(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    content = bytearray(good(kind))
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        # Most damage where it hurts: in the header.
        place = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    file = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    file.write_bytes(content[:cut])
    for read in (load_user, describe_user) if kind == "user" else (load_ppd, describe_ppd):
        try:
            read(file)
        except (FileFormatError, PPDError) as error:
            assert str(error).startswith("Cannot ")


def test_a_header_that_lies_about_sizes_allocates_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    header = {"__metadata__": {}, "tokens": {"dtype": "F32", "shape": [1 << 30, 1 << 30], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(FileFormatError, match="its format is none"):
        load_user(file)
    header["__metadata__"] = {"format": "palate.user", "version": "1", "ppd": "p", "pairs": "1"}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(FileFormatError, match="at most 4096 tokens"):
        load_user(file)
