"""The same CLIP in every layout is one encoder: one identity, the same vectors."""

from __future__ import annotations

import pytest
import torch
from palate.adapters.encoders import ClipFacts, ImageTextEncoder, canonical_state, clip_identity, load_encoder
from palate.adapters.errors import EncoderError, PreferenceError
from safetensors.torch import save_file

EOS = 63


def transformers_clip(activation: str = "quick_gelu", **vision: int):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    common = {"hidden_act": activation, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=common
        | {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 64, "eos_token_id": EOS, "bos_token_id": 62},
        vision_config=common
        | {"hidden_size": 128, "intermediate_size": 160, "image_size": 32, "patch_size": 8}
        | vision,
        projection_dim=48,
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():  # fresh weights are nearly zero: make every tensor matter
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    return model


def open_clip_clip(quick_gelu: bool = True):
    import open_clip

    torch.manual_seed(1)
    vision = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 64, "width": 64, "heads": 2, "layers": 2}
    model = open_clip.CLIP(48, vision, text, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    return model


def ids() -> torch.Tensor:
    rows = torch.full((3, 77), EOS)
    rows[:, 0] = 62
    for row, length in enumerate((3, 40, 75)):
        rows[row, 1 : length + 1] = torch.arange(length) % 60
    return rows


def pixels(size: int = 32, n: int = 3) -> torch.Tensor:
    return torch.rand(n, size, size, 3, generator=torch.Generator().manual_seed(5)).mul(255).round() / 255


def normalised(images: torch.Tensor) -> torch.Tensor:
    facts = ClipFacts().settled({})
    return (images.permute(0, 3, 1, 2) - torch.tensor(facts.mean)[:, None, None]) / torch.tensor(facts.std)[
        :, None, None
    ]


def unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_vectors_are_those_of_transformers(activation: str) -> None:
    model = transformers_clip(activation)
    facts = ClipFacts.from_config(model.config.to_dict())
    encoder = ImageTextEncoder(model.state_dict(), facts=facts, tokenize=lambda texts: ids())
    with torch.no_grad():
        out = model(input_ids=ids(), pixel_values=normalised(pixels()))
    assert torch.allclose(encoder.encode_images(pixels()), unit(out.image_embeds), atol=1e-5)
    assert torch.allclose(encoder.encode_texts(["a", "b", "c"]), unit(out.text_embeds), atol=1e-5)
    assert encoder.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_vectors_are_those_of_open_clip(quick_gelu: bool) -> None:
    model = open_clip_clip(quick_gelu)
    facts = ClipFacts("quick_gelu" if quick_gelu else "gelu")
    encoder = ImageTextEncoder(model.state_dict(), facts=facts, tokenize=lambda texts: ids())
    with torch.no_grad():
        images, texts = model.encode_image(normalised(pixels())), model.encode_text(ids())
    assert torch.allclose(encoder.encode_images(pixels()), unit(images), atol=1e-5)
    assert torch.allclose(encoder.encode_texts(["a", "b", "c"]), unit(texts), atol=1e-5)


def to_open_clip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The way back, written apart from the converter: canonical names to open_clip's."""
    out = {
        "visual.proj": state["visual_projection.weight"].T,
        "text_projection": state["text_projection.weight"].T,
        "logit_scale": state["logit_scale"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        out[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        out[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
        for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
            for n in range(2):
                a, b = f"{tower}.encoder.layers.{n}.", f"{prefix}transformer.resblocks.{n}."
                fused = [state[f"{a}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                out[f"{b}attn.in_proj_{kind}"] = torch.cat(fused)
                out[f"{b}attn.out_proj.{kind}"] = state[f"{a}self_attn.out_proj.{kind}"]
                out[f"{b}ln_1.{kind}"], out[f"{b}ln_2.{kind}"] = (state[f"{a}layer_norm{i}.{kind}"] for i in (1, 2))
                out[f"{b}mlp.c_fc.{kind}"] = state[f"{a}mlp.fc1.{kind}"]
                out[f"{b}mlp.c_proj.{kind}"] = state[f"{a}mlp.fc2.{kind}"]
    return out


def test_all_layouts_are_one_encoder() -> None:
    state = {n: v.detach().clone() for n, v in transformers_clip().state_dict().items()}
    comfy = {f"clip_l.transformer.{n}": v for n, v in state.items()}
    old = state | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    half = {n: v.half() for n, v in state.items()}
    custom_text = {
        (n if n.startswith(("visual.", "logit")) else f"text.{n}"): v for n, v in to_open_clip(state).items()
    }
    encoders = [ImageTextEncoder(s) for s in (state, to_open_clip(state), comfy, old, half, custom_text)]
    vectors = [e.encode_images(pixels()) for e in encoders]
    assert len({e.identity for e in encoders}) == 1 and encoders[0].identity == clip_identity(state)
    assert all(torch.allclose(v, vectors[0], atol=1e-3) for v in vectors)
    assert torch.equal(vectors[1], vectors[0]) and torch.equal(vectors[5], vectors[0])


def test_a_tower_saved_alone_by_transformers_5_is_read() -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    model = transformers_clip()
    full = model.state_dict()
    bare = {n.removeprefix("vision_model."): v for n, v in full.items() if n.startswith(("vision", "visual"))}
    assert clip_identity(bare) == clip_identity(full)
    config = CLIPVisionConfig(**model.config.vision_config.to_dict())
    assert set(CLIPVisionModelWithProjection(config).state_dict()) <= set(full)
    encoder = ImageTextEncoder(bare)
    assert not encoder.has_text and encoder.text_projection is None
    with pytest.raises(EncoderError, match="image tower only"):
        encoder.encode_texts(["a"])


def test_identity_ignores_text_and_notices_images_and_activation() -> None:
    state = transformers_clip().state_dict()
    other_text = state | {"text_projection.weight": torch.zeros(48, 64)}
    moved = state | {"visual_projection.weight": state["visual_projection.weight"] + 0.01}
    assert clip_identity(other_text) == clip_identity(state)
    assert clip_identity(moved) != clip_identity(state)
    assert clip_identity(state, ClipFacts("quick_gelu", vision_heads=4)) == clip_identity(state)
    assert clip_identity(state, ClipFacts("gelu")) != clip_identity(state)


def test_true_shapes_of_vit_l_14() -> None:
    """Two layers of ViT-L/14 at full width: heads and activation are found from the shapes alone."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 2}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 2}
    config = CLIPConfig(text_config=text, vision_config=vision | {"patch_size": 14}, projection_dim=768)
    model = CLIPModel(config).eval()
    encoder = ImageTextEncoder(model.state_dict())
    assert (encoder.facts.vision_heads, encoder.facts.text_heads, encoder.facts.activation) == (16, 12, "quick_gelu")
    with torch.no_grad():
        out = model.get_image_features(pixel_values=normalised(pixels(224, 1)))
    out = out if isinstance(out, torch.Tensor) else out.pooler_output
    assert torch.allclose(encoder.encode_images(pixels(224, 1)), unit(out), atol=1e-5)
    assert encoder.text_projection is not None and encoder.text_projection.shape == (768, 768)


@pytest.mark.parametrize(
    ("width", "heads", "activation"),
    [(768, 12, "quick_gelu"), (1280, 16, "gelu"), (1664, 16, "gelu"), (96, 3, "quick_gelu"), (128, 4, "quick_gelu")],
)
def test_standards_by_width(width: int, heads: int, activation: str) -> None:
    facts = ClipFacts().settled({"vision_model.embeddings.patch_embedding.weight": torch.empty(width, 3, 8, 8)})
    assert (facts.vision_heads, facts.activation) == (heads, activation)


def test_what_is_no_clip_is_named() -> None:
    with pytest.raises(EncoderError, match="Cannot read this as a CLIP: found unet"):
        canonical_state({"unet.weight": torch.zeros(1)})
    text_only = {n: v for n, v in transformers_clip().state_dict().items() if n.startswith("text")}
    with pytest.raises(EncoderError, match=r"without a projected image tower.*open_clip:ViT-L-14/openai"):
        ImageTextEncoder(text_only)
    pooled = to_open_clip(transformers_clip().state_dict()) | {"visual.attn_pool.query": torch.zeros(1)}
    with pytest.raises(EncoderError, match="attn_pool"):
        ImageTextEncoder(pooled)


def test_broken_weights_are_refused() -> None:
    state = transformers_clip().state_dict()
    nan = state | {"visual_projection.weight": torch.full((48, 128), float("nan"))}
    with pytest.raises(EncoderError, match="NaN"):
        ImageTextEncoder(nan)
    gone = {n: v for n, v in state.items() if "vision_model.encoder.layers.1.mlp" not in n}
    with pytest.raises(EncoderError, match="missing"):
        ImageTextEncoder(gone)
    bent = state | {"vision_model.post_layernorm.weight": torch.zeros(7)}
    with pytest.raises(PreferenceError, match=r"post_layernorm.weight is \(7,\)"):
        ImageTextEncoder(bent)


def test_file_and_open_clip_file_agree(tmp_path) -> None:
    state = {n: v.contiguous() for n, v in transformers_clip().state_dict().items()}
    save_file(state, tmp_path / "full.safetensors")
    save_file({n: v.contiguous() for n, v in to_open_clip(state).items()}, tmp_path / "oc.safetensors")
    torch.save(state, tmp_path / "full.pt")
    one, two, three = (load_encoder(tmp_path / n) for n in ("full.safetensors", "oc.safetensors", "full.pt"))
    assert one.identity == two.identity == three.identity and one.name == "full"
    assert torch.equal(one.encode_images(pixels()), two.encode_images(pixels()))


def test_mismatch_names_both_encoders() -> None:
    encoder = ImageTextEncoder(transformers_clip().state_dict(), name="mine")
    encoder.require(encoder.identity, "the taste of mara")
    with pytest.raises(EncoderError, match=r"taste of mara here: it was made with theirs \(0000.*expected mine"):
        encoder.require("0" * 64, "the taste of mara", "theirs")
