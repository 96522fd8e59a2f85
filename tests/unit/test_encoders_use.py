"""Encoders in use: pictures, folders, tokenizers, the cache in the store."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import read_image
from palate.adapters.encoders import ClipFacts, ImageTextEncoder, encode_cached, encode_readable, load_encoder
from palate.adapters.encoders.pictures import prepare
from palate.adapters.encoders.towers import end_positions
from palate.adapters.errors import EncoderError, ImageError
from PIL import Image
from safetensors.torch import save_file

FACTS = ClipFacts("quick_gelu", vision_heads=2, text_heads=2)


def random_state(joint: int = 16, width: int = 32) -> dict[str, torch.Tensor]:
    """Canonical weights of one layer each, patch 8 on 32 pixels, a vocabulary of 64."""
    draw = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw) * 0.2

    state = {
        "vision_model.embeddings.class_embedding": normal(width),
        "vision_model.embeddings.patch_embedding.weight": normal(width, 3, 8, 8),
        "vision_model.embeddings.position_embedding.weight": normal(17, width),
        "visual_projection.weight": normal(joint, width),
        "text_model.embeddings.token_embedding.weight": normal(64, width),
        "text_model.embeddings.position_embedding.weight": normal(77, width),
        "text_projection.weight": normal(joint, width),
        "logit_scale": torch.tensor(2.0),
    }
    norms = ["vision_model.pre_layrnorm", "vision_model.post_layernorm", "text_model.final_layer_norm"]
    for tower in ("vision_model", "text_model"):
        layer = f"{tower}.encoder.layers.0."
        norms += [layer + "layer_norm1", layer + "layer_norm2"]
        shapes = {f"self_attn.{p}_proj": (width, width) for p in ("q", "k", "v", "out")}
        for name, shape in (shapes | {"mlp.fc1": (2 * width, width), "mlp.fc2": (width, 2 * width)}).items():
            state |= {f"{layer}{name}.weight": normal(*shape), f"{layer}{name}.bias": normal(shape[0])}
    for name in norms:
        state |= {f"{name}.weight": 1 + normal(width), f"{name}.bias": normal(width)}
    return state


def encoder(**more) -> ImageTextEncoder:
    return ImageTextEncoder(random_state(), facts=FACTS, **more)


def noise(height: int, width: int, n: int = 2) -> torch.Tensor:
    picture = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(7))
    smooth = torch.nn.functional.interpolate(picture, size=(height, width), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).mul(255).round() / 255


@pytest.mark.parametrize("shape", [(32, 32), (50, 40), (20, 70), (128, 128)])
def test_pil_and_tensor_give_the_same_vectors(shape: tuple[int, int]) -> None:
    images = noise(*shape)
    pil = [Image.fromarray((image.numpy() * 255).round().astype(np.uint8)) for image in images]
    from_pil, from_tensor = encoder().encode_images(pil), encoder().encode_images(images)
    assert torch.allclose(from_pil, from_tensor, atol=1e-5) and from_pil.dtype == torch.float32
    assert torch.allclose(from_pil.norm(dim=-1), torch.ones(2), atol=1e-6)


def test_a_host_may_move_the_towers_at_any_time_and_bring_them_back_before_each_use() -> None:
    one, images = encoder(tokenize=lambda texts: torch.tensor([[1, 2, 63]] * len(texts))), noise(32, 32)
    pictures, texts = one.encode_images(images), one.encode_texts(["a"])
    towers, here = one.towers, {name: weight.clone() for name, weight in one.towers.state_dict().items()}
    assert {name.split(".")[0] for name in here} == {"images", "texts"}

    def bring() -> None:
        towers.to_empty(device="cpu")
        towers.load_state_dict(here)

    one.before_use(bring)
    for encode, given, expected in ((one.encode_images, images, pictures), (one.encode_texts, ["a"], texts)):
        towers.to("meta")
        assert torch.equal(encode(given), expected)


def test_resizing_is_that_of_transformers() -> None:
    from transformers import CLIPImageProcessor

    images = noise(90, 61, 1)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    theirs = processor(Image.fromarray((images[0].numpy() * 255).round().astype(np.uint8)), return_tensors="pt")
    ours = prepare(images[0], 32, processor.image_mean, processor.image_std)
    assert (ours - theirs["pixel_values"][0]).abs().mean() < 0.02  # a grey level is 0.015


def test_batches_change_nothing() -> None:
    images = noise(32, 32, 5)
    assert torch.allclose(encoder().encode_images(images, batch_size=2), encoder().encode_images(images), atol=1e-6)
    assert encoder().encode_images([]).shape == (0, 16)


def test_transparency_and_grey_pictures_are_taken() -> None:
    grey = Image.new("L", (40, 30), 120)
    assert torch.allclose(encoder().encode_images([grey]), encoder().encode_images([grey.convert("RGBA")]), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.full((1, 8, 8, 3), float("nan")), "NaN"),
        (torch.full((1, 8, 8, 3), 255.0), "Divide by 255"),
        (torch.zeros(1, 3, 8, 8), "Move colours last"),
        (["a path"], "expected a PIL image"),
    ],
)
def test_bad_pictures_are_named(image: object, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        encoder().encode_images(image)


@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_an_open_picture_gives_the_vector_of_the_stored_one(mode: str) -> None:
    grey = np.linspace(0, 65535, 40 * 60).reshape(40, 60)
    see_through = np.dstack([grey // 256] * 4)
    image = Image.fromarray(grey.astype(np.uint16) if mode == "I;16" else see_through.astype(np.uint8))
    assert image.mode == mode
    model = encoder()
    assert torch.equal(model.encode_images([image]), model.encode_images([read_image(image)]))


def test_a_very_long_picture_takes_no_more_room_than_others() -> None:
    image = torch.zeros(1, 300_000, 3)  # resized whole it would take 1.8 TB
    image[:, 150_000 - 8 : 150_000 + 8] = 1.0
    assert prepare(image, 224, (0, 0, 0), (1, 1, 1)).shape == (3, 224, 224)
    assert torch.allclose(prepare(image, 224, (0, 0, 0), (1, 1, 1)), torch.ones(()))


def test_text_goes_through_the_given_tokenizer() -> None:
    seen: list[list[str]] = []

    def tokenize(texts: list[str]) -> torch.Tensor:
        seen.append(texts)
        return torch.tensor([[1, 5, 63, 63]] * len(texts))

    vectors = encoder(tokenize=tokenize).encode_texts(["a", "b"])
    assert seen == [["a", "b"]] and vectors.shape == (2, 16)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2), atol=1e-6)


def test_what_follows_the_end_token_is_ignored() -> None:
    one, two = torch.tensor([[1, 5, 63, 63, 63]]), torch.tensor([[1, 5, 63, 0, 0]])
    a, b = (encoder(tokenize=lambda _, ids=ids: ids).encode_texts(["x"]) for ids in (one, two))
    assert torch.allclose(a, b, atol=1e-6)


def test_end_positions_by_id_or_by_highest() -> None:
    ids = torch.tensor([[1, 9, 5, 5], [1, 2, 9, 5]])
    assert end_positions(ids, None).tolist() == [1, 2]
    assert end_positions(ids, 5).tolist() == [2, 3]
    assert end_positions(ids, 77).tolist() == [1, 2]


def test_a_square_stand_in_is_no_projection() -> None:
    """ComfyUI makes up a (H, H) text projection where a checkpoint has none; D = 16 and H = 32 unmask it."""
    state = random_state() | {"text_projection.weight": torch.zeros(32, 32)}
    made = ImageTextEncoder(state, facts=FACTS)
    assert not made.has_text and made.text_projection is None


def write_pipeline(folder, config: dict | None = None) -> None:
    """A diffusers-like folder whose clip/ has no text tower of its own."""
    state = random_state()
    text = {n.removeprefix("text_model."): v for n, v in state.items() if n.startswith("text_model.")}
    for name in ("clip", "text_encoder"):
        (folder / name).mkdir(parents=True)
    save_file({n: v for n, v in state.items() if not n.startswith("text_model.")}, folder / "clip/model.safetensors")
    save_file(text, folder / "text_encoder/model.safetensors")
    tower = {"hidden_act": "quick_gelu", "num_attention_heads": 2}
    (folder / "clip/config.json").write_text(json.dumps(config or {"text_config": tower, "vision_config": tower}))


def test_a_pipeline_folder_is_read_with_its_text_tower(tmp_path) -> None:
    write_pipeline(tmp_path / "tiny")
    loaded = load_encoder(tmp_path / "tiny")
    assert loaded.name == "tiny" and loaded.has_text and loaded.identity == encoder().identity
    assert torch.equal(loaded.encode_images(noise(32, 32)), encoder().encode_images(noise(32, 32)))


def test_nothing_there_is_said_so(tmp_path) -> None:
    for spec in (tmp_path / "no.safetensors", "nowhere/at/all", "open_clip:ViT-L-14/no.safetensors", "x" * 4000, "a\0"):
        with pytest.raises(EncoderError, match="no such f"):
            load_encoder(spec)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="found no weights there"):
        load_encoder(tmp_path / "empty")
    with pytest.raises(EncoderError, match="no such model"):
        load_encoder("open_clip:ViT-Nope/openai")
    with pytest.raises(EncoderError, match=r"unknown tag.*openai"):
        load_encoder("open_clip:ViT-L-14/nope")


def test_broken_files_and_pickles_are_refused(tmp_path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"not a file")
    with pytest.raises(EncoderError, match=r"Cannot load 'a.safetensors'"):
        load_encoder(tmp_path / "a.safetensors")
    torch.save({"state_dict": random_state(), "run_me": Image.new("RGB", (2, 2))}, tmp_path / "b.pt")
    with pytest.raises(EncoderError, match="something else than tensors"):
        load_encoder(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("vision_model.embeddings.position_embedding.weight", None),
        ("vision_model.embeddings.patch_embedding.weight", torch.tensor(1.0)),
        ("visual_projection.weight", torch.ones(3)),
        ("text_projection.weight", torch.tensor(1.0)),
        ("text_model.embeddings.token_embedding.weight", torch.ones(3)),
        ("vision_model.encoder.layers.x.mlp.fc1.weight", torch.ones(3)),
        ("logit_scale", torch.tensor(1e30)),
        ("logit_scale", torch.ones(2)),
    ],
)
def test_tensors_that_fit_nothing_are_refused(name: str, tensor: torch.Tensor | None) -> None:
    state = random_state() | {name: tensor}
    with pytest.raises(EncoderError, match="Cannot use this CLIP"):
        ImageTextEncoder({key: value for key, value in state.items() if value is not None}, facts=FACTS)


@pytest.mark.parametrize(
    ("config", "look", "said"),
    [
        ({"vision_config": 5}, {}, "config.json.* is broken"),
        ({"text_config": {"eos_token_id": "y"}}, {}, "config.json.* is broken"),
        ({"vision_config": {"num_attention_heads": 7}}, {}, "7 attention heads"),
        ({"vision_config": {}}, {"image_mean": ["a"]}, "config.json.* is broken"),
    ],
)
def test_settings_that_fit_nothing_are_refused(tmp_path, config: dict, look: dict, said: str) -> None:
    save_file(random_state(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(look))
    with pytest.raises(EncoderError, match=said):
        load_encoder(tmp_path)


def test_open_clip_reads_a_local_file(tmp_path) -> None:
    """The file is transformers' layout on purpose: layout and loader are independent."""
    save_file(random_state(width=96), tmp_path / "my.safetensors")
    loaded = load_encoder(f"open_clip:ViT-B-32/{tmp_path / 'my.safetensors'}")
    assert loaded.name == "open_clip ViT-B-32/my" and loaded.facts.activation == "gelu"


class FakeStore:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, np.ndarray]] = {}
        self.opened: list[str] = []

    def image(self, image_id: str) -> Image.Image:
        if image_id == "gone":
            raise ImageError("Cannot find it.")
        self.opened.append(image_id)
        return Image.new("RGB", (32, 32), (len(image_id) * 20, 90, 30))

    def vectors(self, identity: str, ids) -> dict[str, np.ndarray]:
        return {i: v for i, v in self.kept.get(identity, {}).items() if i in ids}

    def put_vectors(self, identity: str, vectors) -> None:
        self.kept.setdefault(identity, {}).update(vectors)


def test_stored_images_are_encoded_once_per_encoder() -> None:
    store, one = FakeStore(), encoder()
    first = encode_cached(store, one, ["a", "bb", "a"])
    again = encode_cached(store, one, ["bb", "a"])
    assert store.opened == ["a", "bb"] and torch.equal(first[[1, 0]], again)
    other = ImageTextEncoder(random_state(joint=8), facts=FACTS)
    assert encode_cached(store, other, ["a"]).shape == (1, 8) and store.opened == ["a", "bb", "a"]
    assert encode_cached(store, one, []).shape == (0, 16)


def test_a_lost_picture_costs_no_other_its_vector() -> None:
    store, told = FakeStore(), []
    found = encode_readable(store, encoder(), ["a", "gone", "bb"], 2, lambda *done: told.append(done))
    assert list(found) == ["a", "bb"] and told == [(0, 3), (2, 3), (3, 3)]
    with pytest.raises(ImageError, match="image gone…: its picture is gone or damaged"):
        encode_cached(store, encoder(), ["a", "gone"])
