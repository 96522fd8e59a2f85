"""The same CLIP through open_clip, a transformers folder and ComfyUI's towers: one identity, the same vectors."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from palate.adapters.encoders import ClipFacts, ImageTextEncoder, canonical_state, load_encoder
from palate.adapters.errors import EncoderError
from safetensors.torch import save_file

NAME = "palate-tiny-test"
CONFIG = {
    "embed_dim": 48,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
TEXTS = ["a red star", "a very small blue house on a hill, seen from above"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random model of open_clip's own making, known to its factory by name."""
    import open_clip

    folder = tmp_path_factory.mktemp("configs")
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        made = open_clip.create_model(NAME).eval()
        for parameter in made.parameters():
            parameter.data.add_(torch.randn(parameter.shape) * 0.05)
    return made


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """Written as each tool's users have it."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("files")
    state = {n: v.detach().clone().contiguous() for n, v in model.state_dict().items() if v.is_floating_point()}
    save_file(state, folder / "open_clip.safetensors")
    common = {"hidden_act": "quick_gelu", "num_hidden_layers": 2}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "projection_dim": 48}
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=common | text, vision_config=common | vision, projection_dim=48)
    theirs = CLIPModel(config)
    left, _ = theirs.load_state_dict(canonical_state(state), strict=False)
    assert not [name for name in left if not name.endswith("position_ids")]
    theirs.save_pretrained(folder / "transformers")
    return SimpleNamespace(open_clip=folder / "open_clip.safetensors", transformers=folder / "transformers")


def towers_of_comfyui(model) -> dict[str, torch.Tensor]:
    """Image tower and text tower as ComfyUI holds them: transformers' names, the projection as `text_projection`."""
    state = canonical_state(model.state_dict())
    vision = {n: v for n, v in state.items() if n.startswith(("vision_model.", "visual_projection."))}
    text = {f"clip_l.transformer.{n}": v for n, v in state.items() if n.startswith("text_")}
    return vision | text


def pictures() -> torch.Tensor:
    return torch.rand(3, 40, 33, 3, generator=torch.Generator().manual_seed(2))


def test_one_clip_in_three_hosts_is_one_encoder(model, files) -> None:
    made = [
        load_encoder(f"open_clip:{NAME}/{files.open_clip}"),
        load_encoder(files.transformers),
        ImageTextEncoder(towers_of_comfyui(model), "host"),
    ]
    assert len({e.identity for e in made}) == 1
    images, texts = [e.encode_images(pictures()) for e in made], [e.encode_texts(TEXTS) for e in made]
    for vectors in (*images, *texts):
        assert vectors.dtype == torch.float32
    for other in (1, 2):
        assert torch.allclose(images[0], images[other], atol=1e-3)
        assert torch.allclose(texts[0], texts[other], atol=1e-3)


def test_vectors_are_those_that_open_clip_itself_gives(model, files) -> None:
    import open_clip

    loaded = load_encoder(f"open_clip:{NAME}/{files.open_clip}")
    with torch.no_grad():
        theirs = model.encode_text(open_clip.get_tokenizer(NAME)(TEXTS), normalize=True)
    assert torch.allclose(loaded.encode_texts(TEXTS), theirs, atol=1e-5)
    assert loaded.name == f"open_clip {NAME}/open_clip"


def test_a_pretrained_tag_takes_open_clips_settings(model, monkeypatch) -> None:
    import open_clip

    asked = {}

    def create_model(name: str, **settings: object):
        asked.update(settings, name=name)
        return model

    tag = {"quick_gelu": True, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, pretrained: tag)
    monkeypatch.setattr(open_clip, "create_model", create_model)
    loaded = load_encoder(f"open_clip:{NAME}/tag")
    assert asked == {"name": NAME, "pretrained": "tag", "force_quick_gelu": True}
    assert loaded.facts.mean == (0.5, 0.5, 0.5) and loaded.facts.activation == "quick_gelu"
    plain = ImageTextEncoder(model.state_dict(), facts=ClipFacts("quick_gelu"))
    assert loaded.identity != plain.identity  # other pixels, other vectors


def test_a_hub_name_that_cannot_be_had_is_named(monkeypatch) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(EncoderError, match=r"Cannot load the encoder 'some/clip'.*offline"):
        load_encoder("some/clip")


def test_a_hub_name_is_read_from_its_snapshot(files, monkeypatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(files.transformers))
    assert load_encoder("some/clip").name == "some/clip"
