"""ImageReward: the released layout gives the released code's rewards, and what isn't it is named."""

import json

import pytest
import torch
from palate.adapters.encoders.pictures import as_batches, prepare
from palate.adapters.errors import FileFormatError
from palate.adapters.exchange import ImageReward, image_reward, load_image_reward
from palate.adapters.exchange.image_reward import MEAN, SPREAD
from palate.ui import cli
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

SEE, READ, DEEP, WORDS, PATCH, SIDE = 128, 64, 2, 120, 8, 4  # widths, layers, vocabulary, pixels, patches a side
MIDDLE, SPREADS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def state(seed=0):
    """Random weights under the names of ImageReward.pt, small."""
    shapes = {"cls_token": (1, 1, SEE), "pos_embed": (1, 1 + SIDE * SIDE, SEE), "norm": SEE}
    shapes |= {"patch_embed.proj.weight": (SEE, 3, PATCH, PATCH), "patch_embed.proj.bias": (SEE,)}
    for n in range(DEEP):
        shapes |= {f"blocks.{n}.norm1": SEE, f"blocks.{n}.norm2": SEE}
        shapes |= {f"blocks.{n}.attn.qkv": (3 * SEE, SEE), f"blocks.{n}.attn.proj": (SEE, SEE)}
        shapes |= {f"blocks.{n}.mlp.fc1": (4 * SEE, SEE), f"blocks.{n}.mlp.fc2": (SEE, 4 * SEE)}
    found = {f"blip.visual_encoder.{name}": shape for name, shape in shapes.items()}
    text = {"embeddings.word_embeddings.weight": (WORDS, READ), "embeddings.position_embeddings.weight": (40, READ)}
    text |= {"embeddings.LayerNorm": READ}
    for n in range(DEEP):
        for kind, width in (("attention", READ), ("crossattention", SEE)):
            start = f"encoder.layer.{n}.{kind}"
            text |= {f"{start}.self.query": (READ, READ), f"{start}.output.dense": (READ, READ)}
            text |= {f"{start}.self.key": (READ, width), f"{start}.self.value": (READ, width)}
            text |= {f"{start}.output.LayerNorm": READ}
        text |= {f"encoder.layer.{n}.intermediate.dense": (4 * READ, READ), f"encoder.layer.{n}.output.LayerNorm": READ}
        text |= {f"encoder.layer.{n}.output.dense": (READ, 4 * READ)}
    found |= {f"blip.text_encoder.{name}": shape for name, shape in text.items()}
    widths = (READ, 32, 16, 8, 4, 1)
    found |= {f"mlp.layers.{n}": (widths[k + 1], widths[k]) for k, n in enumerate((0, 2, 4, 6, 7))}
    draw, made = torch.Generator().manual_seed(seed), {}
    for name, shape in found.items():
        if name.endswith((".weight", ".bias", "_token", "_embed")):
            made[name] = 0.2 * torch.randn(shape, generator=draw)
            continue
        width = shape if isinstance(shape, int) else shape[0]
        made[f"{name}.weight"] = 0.2 * torch.randn(shape, generator=draw) + isinstance(shape, int)
        made[f"{name}.bias"] = 0.2 * torch.randn(width, generator=draw)
    return made


def by_hand(weights, pixels, ids, mask):
    """The released forward pass, written out."""

    def line(name, x):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x, eps):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def look(query, key, value, hidden=None):
        split = [part.unflatten(-1, (-1, 64)).transpose(1, 2) for part in (query, key, value)]
        scores = split[0] @ split[1].transpose(-1, -2) / 8.0
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None], -1e9)
        return (scores.softmax(-1) @ split[2]).transpose(1, 2).flatten(2)

    see, read = "blip.visual_encoder", "blip.text_encoder"
    stem = weights[f"{see}.patch_embed.proj.weight"], weights[f"{see}.patch_embed.proj.bias"]
    x = F.conv2d(pixels, *stem, stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([weights[f"{see}.cls_token"].expand(len(x), -1, -1), x], 1) + weights[f"{see}.pos_embed"]
    for n in range(DEEP):
        block = f"{see}.blocks.{n}"
        x = x + line(
            f"{block}.attn.proj", look(*line(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6)).chunk(3, -1))
        )
        x = x + line(f"{block}.mlp.fc2", F.gelu(line(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6))))
    x = norm(f"{see}.norm", x, 1e-6)
    y = weights[f"{read}.embeddings.word_embeddings.weight"][ids]
    y = norm(f"{read}.embeddings.LayerNorm", y + weights[f"{read}.embeddings.position_embeddings.weight"][:35], 1e-12)
    for n in range(DEEP):
        layer = f"{read}.encoder.layer.{n}"
        for kind, source, hidden in (("attention", None, mask == 0), ("crossattention", x, None)):
            start, source = f"{layer}.{kind}", y if source is None else source
            seen = look(
                line(f"{start}.self.query", y),
                *(line(f"{start}.self.{part}", source) for part in ("key", "value")),
                hidden,
            )
            y = norm(f"{start}.output.LayerNorm", y + line(f"{start}.output.dense", seen), 1e-12)
        inner = line(f"{layer}.output.dense", F.gelu(line(f"{layer}.intermediate.dense", y)))
        y = norm(f"{layer}.output.LayerNorm", y + inner, 1e-12)
    found = y[:, 0]
    for n in (0, 2, 4, 6, 7):
        found = line(f"mlp.layers.{n}", found)
    return (found[:, 0] - MEAN) / SPREAD


def pictures(count=3):
    draw = torch.Generator().manual_seed(1)
    side = PATCH * SIDE
    arrays = (torch.rand(count, side, side, 3, generator=draw) * 255).to(torch.uint8).numpy()
    return [Image.fromarray(array) for array in arrays]


def test_the_rewards_are_those_of_the_released_code():
    weights, draw = state(), torch.Generator().manual_seed(2)
    ids, mask = torch.randint(1, WORDS, (3, 35), generator=draw), torch.ones(3, 35, dtype=torch.long)
    for row, length in enumerate((6, 20, 35)):
        mask[row, length:], ids[row, length:] = 0, 0
    pixels = torch.stack([prepare(one, PATCH * SIDE, MIDDLE, SPREADS) for one in as_batches(pictures())])
    found = ImageReward(weights, lambda texts: (ids, mask))(pictures(), ["a"] * 3)
    torch.testing.assert_close(found, by_hand(weights, pixels, ids, mask), rtol=1e-4, atol=1e-5)
    assert float(found.std()) > 1e-3  # and they are not all the same


@pytest.fixture
def released(tmp_path):
    """A folder as people have it: the weights, and BERT's vocabulary beside them."""
    torch.save(state() | {"blip.vision_proj.weight": torch.zeros(2, 2)}, tmp_path / "ImageReward.pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "star"]
    (tmp_path / "vocab.txt").write_text("\n".join(words + [f"w{n}" for n in range(WORDS - len(words))]))
    return tmp_path


def test_folders_are_judged_by_it(released, capsys):
    for folder in ("a", "b"):
        (released / folder).mkdir()
        for number, picture in enumerate(pictures(2)):
            (picture if folder == "a" else picture.rotate(90)).save(released / folder / f"{number}.png")
            (released / folder / f"{number}.txt").write_text("a red star")
    words = [str(released / "a"), str(released / "b"), "--judge", f"imagereward={released / 'ImageReward.pt'}"]
    assert cli.main(["evaluate", *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["wins"][0]["judge"] == "imagereward" and told["wins"][0]["pairs"] == 2
    (released / "a" / "0.txt").unlink()
    assert cli.main(["evaluate", *words]) == 2
    assert "0 says no prompt" in capsys.readouterr().err


def test_safetensors_and_a_folder_are_taken_too_and_prompts_matter(released):
    save_file(state(), released / "reward.safetensors")
    one, other = load_image_reward(released / "reward.safetensors"), load_image_reward(released)
    texts = ["a red star", "blue " * 50, ""]
    assert torch.equal(one(pictures(), texts), other(pictures(), texts))
    assert not torch.equal(one(pictures(), texts), one(pictures(), texts[::-1]))


def test_a_name_alone_makes_no_room_for_a_billion_layers():
    names = dict.fromkeys(["encoder.layers.0.a", "encoder.layers.0.b", "encoder.layers.999999999.a"])
    assert image_reward._count(names, r"encoder\.layers\.(\d+)\.") == 2
    with pytest.raises(FileFormatError, match=r"'no encoder\.layers\.2\."):
        ImageReward(state() | {"blip.visual_encoder.blocks.999999999.norm1.weight": torch.zeros(1)}, None)


def test_what_is_missing_or_something_else_is_named(released):
    with pytest.raises(FileFormatError, match=r"no such file; expected ImageReward's weights.*huggingface.co/THUDM"):
        load_image_reward(released / "elsewhere.pt")
    whole = state()
    whole.pop("blip.visual_encoder.norm.bias")
    torch.save(whole, released / "broken.pt")
    with pytest.raises(FileFormatError, match=r"no post_layernorm\.bias"):
        load_image_reward(released / "broken.pt")
    torch.save({"model": torch.zeros(2)}, released / "other.pt")
    with pytest.raises(FileFormatError, match="it holds model; expected ImageReward"):
        load_image_reward(released / "other.pt")
    narrow = whole | {"blip.visual_encoder.patch_embed.proj.weight": torch.zeros(32, 3, PATCH, PATCH)}
    torch.save(narrow, released / "narrow.pt")
    with pytest.raises(FileFormatError, match=r"Cannot read the weights.*Get the file again"):
        load_image_reward(released / "narrow.pt")
    (released / "vocab.txt").unlink()
    with pytest.raises(FileFormatError, match=r"expected vocab\.txt of bert-base-uncased in"):
        load_image_reward(released / "ImageReward.pt")
