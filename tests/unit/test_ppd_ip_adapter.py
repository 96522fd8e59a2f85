"""IP-Adapter files: read without running anything, numbered as diffusers numbers them, the same tokens and pictures."""

from __future__ import annotations

import pickle
import zipfile

import pytest
import torch
from palate.adapters.errors import EncoderMismatchError, FileFormatError, PPDError
from palate.adapters.ppd.ip_adapter import IPAdapterEncoder, as_start, read
from palate.adapters.ppd.ip_projectors import projector_of
from palate.adapters.ppd.layers import LayerShape, layers_of, standard_layers
from palate.adapters.ppd.model import PPD

WIDTH, SEEN, TOKENS = 24, 20, 4


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small_unet(seed: int = 0):
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16, 24),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            transformer_layers_per_block=(1, 2, 1),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=WIDTH,
            norm_num_groups=4,
        ).eval()


def linear(width: int = WIDTH) -> dict[str, torch.Tensor]:
    return {
        "proj.weight": drawn(TOKENS * width, SEEN, seed=1),
        "proj.bias": drawn(TOKENS * width, seed=2),
        "norm.weight": drawn(width, seed=3),
        "norm.bias": drawn(width, seed=4),
    }


def resampler(inner: int = 128, mlp: int = 512, depth: int = 2) -> dict[str, torch.Tensor]:
    state = {
        "latents": drawn(1, 3, inner),
        "proj_in.weight": drawn(inner, SEEN, seed=1),
        "proj_in.bias": drawn(inner, seed=2),
        "proj_out.weight": drawn(WIDTH, inner, seed=3) / inner**0.5,
        "proj_out.bias": drawn(WIDTH, seed=4),
        "norm_out.weight": drawn(WIDTH, seed=5),
        "norm_out.bias": drawn(WIDTH, seed=6),
    }
    for n in range(depth):
        for place, norm in enumerate(("0.norm1", "0.norm2", "1.0")):
            state[f"layers.{n}.{norm}.weight"] = drawn(inner, seed=10 + 9 * n + place)
            state[f"layers.{n}.{norm}.bias"] = drawn(inner, seed=40 + 9 * n + place)
        shapes = {"0.to_q": (128, inner), "0.to_kv": (256, inner), "0.to_out": (inner, 128)}
        for place, (name, shape) in enumerate((shapes | {"1.1": (mlp, inner), "1.3": (inner, mlp)}).items()):
            state[f"layers.{n}.{name}.weight"] = drawn(*shape, seed=70 + 9 * n + place) / shape[1] ** 0.5
    return state


def full() -> dict[str, torch.Tensor]:
    shapes = {"proj.0": (SEEN, SEEN), "proj.2": (WIDTH, SEEN)}
    state = {f"{name}.weight": drawn(*shape, seed=3) for name, shape in shapes.items()}
    state |= {f"{name}.bias": drawn(shape[0], seed=4) for name, shape in shapes.items()}
    return state | {"proj.3.weight": drawn(WIDTH, seed=5), "proj.3.bias": drawn(WIDTH, seed=6)}


def attention(layers: tuple[LayerShape, ...], width: int = WIDTH) -> dict[str, torch.Tensor]:
    return {
        f"{2 * place + 1}.to_{side}_ip.weight": drawn(layer.inner, width, seed=100 * place + ord(side))
        for place, layer in enumerate(layers)
        for side in "kv"
    }


def nested(images: dict[str, torch.Tensor], layers: tuple[LayerShape, ...]) -> dict[str, dict[str, torch.Tensor]]:
    return {"image_proj": images, "ip_adapter": attention(layers)}


def flat(parts: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def unet():
    return small_unet()


@pytest.fixture
def file(tmp_path, unet):
    """The small UNet's IP-Adapter as people have it."""
    from safetensors.torch import save_file

    save_file(flat(nested(linear(), layers_of(unet))), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def with_diffusers(file, unet):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor", "image_encoder"))
    pipe = StableDiffusionPipeline(unet=unet, scheduler=DDIMScheduler(), requires_safety_checker=False, **parts)
    pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=None)
    return pipe.unet


class TestNumbering:
    def test_each_layer_gets_what_diffusers_gives_it(self, file, unet):
        loaded = with_diffusers(file, small_unet())
        ppd = read(file, layers=layers_of(unet))
        for place, layer in enumerate(ppd.attention.layers):
            theirs = loaded.attn_processors[f"{layer.name}.processor"]
            assert torch.equal(ppd.attention.keys[place].weight, theirs.to_k_ip[0].weight)
            assert torch.equal(ppd.attention.values[place].weight, theirs.to_v_ip[0].weight)

    @pytest.mark.parametrize(("base", "count", "width"), [("sd15", 16, 768), ("sdxl", 70, 2048)])
    def test_true_shapes_find_their_base(self, base, count, width):
        layers = standard_layers(base)
        weights = {
            f"{2 * place + 1}.to_{side}_ip.weight": torch.zeros(1, dtype=torch.float16)
            .expand(layer.inner, width)
            .contiguous()
            for place, layer in enumerate(layers[:: 1 if base == "sd15" else 70])
            for side in "kv"
        }
        if base == "sdxl":  # 70 layers in true size would take gigabytes
            with pytest.raises(PPDError, match="it has 1 attention layers that take tokens of width 2048"):
                read({"image_proj": linear(width), "ip_adapter": weights})
            return
        ppd = read({"image_proj": linear(width), "ip_adapter": weights}, name="base")
        assert (ppd.base, len(ppd.attention.layers), ppd.encoder.width) == (base, count, width)
        assert ppd.name == "base (IP-Adapter, untrained)"

    @pytest.mark.parametrize(
        ("base", "config"),
        [
            ("sd15", {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}),
            (
                "sdxl",
                {
                    "block_out_channels": (320, 640, 1280),
                    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    "transformer_layers_per_block": (1, 2, 10),
                    "cross_attention_dim": 2048,
                },
            ),
        ],
    )
    def test_files_number_all_attentions_of_the_true_models_and_ours_are_the_odd_ones(self, base, config):
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            names = list(UNet2DConditionModel(**config).attn_processors)
        assert names[1::2] == [f"{layer.name}.processor" for layer in standard_layers(base)]


class TestTokens:
    def test_one_picture_gives_the_tokens_that_diffusers_gives(self, unet):
        theirs = unet._convert_ip_adapter_image_proj_to_diffusers(linear())
        ours = IPAdapterEncoder(projector_of(linear(), WIDTH, "x"))
        seen = drawn(2, SEEN, seed=9)
        torch.testing.assert_close(ours(seen[:, None]), theirs(seen), atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("state", [resampler, full])
    def test_plus_and_full_give_theirs_too(self, unet, state):
        theirs = unet._convert_ip_adapter_image_proj_to_diffusers(state(depth=4) if state is resampler else state())
        ours = IPAdapterEncoder(projector_of(state(depth=4) if state is resampler else state(), WIDTH, "x"))
        hidden = drawn(2, 5, SEEN, seed=9)
        torch.testing.assert_close(ours(hidden.flatten(1)[:, None]), theirs(hidden), atol=1e-5, rtol=1e-5)

    def test_several_pictures_keep_the_length_of_one_and_their_order_counts_nothing(self):
        encoder = IPAdapterEncoder(projector_of(linear() | {"norm.bias": torch.zeros(WIDTH)}, WIDTH, "x"))
        seen = 5 * drawn(1, 6, SEEN, seed=9)
        tokens = encoder(seen)
        assert tokens.shape == (1, TOKENS, WIDTH)
        torch.testing.assert_close(encoder(seen.flip(1)), tokens)
        length = (tokens / linear()["norm.weight"]).norm(dim=-1)
        torch.testing.assert_close(length, torch.full_like(length, WIDTH**0.5), rtol=1e-3, atol=0)

    def test_masked_pictures_count_nothing_and_nobody_is_the_branch_off(self):
        encoder = IPAdapterEncoder(projector_of(linear(), WIDTH, "x"))
        seen = drawn(2, 3, SEEN, seed=9)
        mask = torch.tensor([[True, True, False], [False, False, False]])
        tokens = encoder(seen, None, mask)
        torch.testing.assert_close(tokens[:1], encoder(seen[:1, :2]))
        assert not bool(tokens[1].any())

    def test_unit_vectors_and_another_width_are_refused(self):
        encoder = IPAdapterEncoder(projector_of(linear(), WIDTH, "x"))
        with pytest.raises(PPDError, match="found vectors of length 1"):
            encoder(torch.nn.functional.normalize(drawn(1, 2, SEEN), dim=-1))
        with pytest.raises(PPDError, match=r"found pictures as \(1, 2, 7\); expected .* vectors of 20"):
            encoder(drawn(1, 2, 7))
        with pytest.raises(PPDError, match="hidden states of 20 each"):
            IPAdapterEncoder(projector_of(full(), WIDTH, "x"))(drawn(1, 2, 7))


class TestInjection:
    def test_strength_1_is_diffusers_ip_adapter_in_both_halves_of_guidance(self, file, unet):
        from palate.adapters.ppd.diffusers import use_user

        loaded = with_diffusers(file, small_unet())
        ppd = read(file, layers=layers_of(unet))
        chosen, rejected = drawn(1, SEEN, seed=7), drawn(1, SEEN, seed=8)
        latents, text = drawn(2, 4, 8, 8, seed=5), drawn(2, 6, WIDTH, seed=6)
        with torch.no_grad():
            both = torch.stack([rejected, chosen])
            theirs = loaded(latents, 500, text, added_cond_kwargs={"image_embeds": [both]}).sample
            with use_user(unet, ppd, ppd.user(chosen, rejected)):
                ours = unet(latents, 500, text).sample
            plain = unet(latents, 500, text).sample
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert (ours - plain).abs().max() > 1e-2

    def test_as_start_keeps_the_attention_has_an_encoder_to_train_and_says_so(self, file, unet):
        ppd = read(file, layers=layers_of(unet))
        start = as_start(ppd, image_width=16)
        assert start.encoder.kind == "pairs" and start.name == "started from the IP-Adapter small"
        for mine, theirs in zip(start.attention.parameters(), ppd.attention.parameters(), strict=True):
            assert torch.equal(mine, theirs) and mine.requires_grad
        start.attention.values[0].weight.data.zero_()
        assert bool(ppd.attention.values[0].weight.any())


class TestFiles:
    def test_a_pickle_of_tensors_reads_as_the_safetensors_does(self, tmp_path, file, unet):
        torch.save(nested(linear(), layers_of(unet)), tmp_path / "small.bin")
        assert (
            read(tmp_path / "small.bin", layers=layers_of(unet)).identity == read(file, layers=layers_of(unet)).identity
        )

    def test_a_pickle_with_more_than_tensors_is_not_run(self, tmp_path):
        ran = tmp_path / "ran"

        class Bad:
            def __reduce__(self):
                return (ran.mkdir, ())

        (tmp_path / "bad.bin").write_bytes(pickle.dumps({"image_proj": Bad()}))
        with pytest.raises(FileFormatError, match=r"Nothing in it was run|damaged"):
            read(tmp_path / "bad.bin")
        assert not ran.exists()

    def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(self, tmp_path, monkeypatch):
        with zipfile.ZipFile(tmp_path / "bomb.bin", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data", b"\0" * 100_000)
        monkeypatch.setattr("palate.adapters.ppd.ip_file.MAX_FILE", 50_000)
        with pytest.raises(FileFormatError, match="it unpacks to 100,000 bytes"):
            read(tmp_path / "bomb.bin")

    def test_a_view_that_claims_more_than_it_holds_is_refused(self, tmp_path, unet):
        state = nested(linear(), layers_of(unet))
        state["image_proj"]["proj.weight"] = torch.zeros(1).expand(10**6, 10**6)
        torch.save(state, tmp_path / "view.bin")
        with pytest.raises(FileFormatError, match="claims 1,000,000,000,000 numbers"):
            read(tmp_path / "view.bin", layers=layers_of(unet))

    @pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 8 + b"{" + b"0" * 20])
    def test_what_is_no_such_file_says_so(self, tmp_path, content):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(FileFormatError, match=r"Cannot read 'x.safetensors'.*expected an IP-Adapter"):
            read(tmp_path / "x.safetensors")
        with pytest.raises(FileFormatError, match="there is no such file"):
            read(tmp_path / "none.bin")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda s: s.pop("image_proj"), "it holds ip_adapter; expected image_proj and ip_adapter"),
            (lambda s: s["ip_adapter"].pop("3.to_v_ip.weight"), "found numbers"),
            (lambda s: s["ip_adapter"].update({"0.to_q_lora.down.weight": torch.zeros(1)}), "holds a LoRA"),
            (
                lambda s: s["ip_adapter"].update({"1.to_k_ip.weight": torch.zeros(5, WIDTH)}),
                "keys and values of layer 1",
            ),
            (lambda s: s["ip_adapter"]["1.to_k_ip.weight"].fill_(torch.nan), "layer 1 holds NaN"),
            (lambda s: s["image_proj"].update({"norm.bias": torch.zeros(3)}), r"image_proj.norm.bias is \(3,\)"),
            (lambda s: s["image_proj"].update({"more": torch.zeros(3)}), "image_proj.more"),
            (lambda s: s.update(image_proj={"norm.weight": torch.zeros(2)}), "Those of FaceID"),
            (lambda s: s["image_proj"].update({"norm.bias": "text"}), "is no tensor of numbers"),
        ],
    )
    def test_what_does_not_fit_is_named(self, unet, change, words):
        state = nested(linear(), layers_of(unet))
        change(state)
        with pytest.raises((PPDError, FileFormatError), match=words):
            read(state, layers=layers_of(unet))

    def test_another_base_is_named(self, unet):
        with pytest.raises(
            PPDError, match=r"it has 10 attention layers that take tokens of width 24; expected SD1.5's 16"
        ):
            read(nested(linear(), layers_of(unet)))


class TestPeople:
    @pytest.mark.parametrize("kind", ["base", "plus"])
    def test_an_image_encoder_of_another_width_is_refused_and_a_fitting_one_kept(self, unet, kind):
        from palate.adapters.encoders import load_encoder

        encoder = load_encoder("playground")
        wanted = encoder.dim if kind == "base" else encoder.hidden_width
        states = {"base": linear(), "plus": resampler()}
        with pytest.raises(EncoderMismatchError, match=rf"of {wanted} numbers; expected 20. Load"):
            read(nested(states[kind], layers_of(unet)), layers=layers_of(unet), image_encoder=encoder)
        key = {"base": "proj.weight", "plus": "proj_in.weight"}[kind]
        state = states[kind] | {key: drawn(len(states[kind][key]), wanted)}
        ppd = read(
            nested(state, layers_of(unet)), layers=layers_of(unet), image_encoder=encoder, precision=torch.float16
        )
        assert (ppd.image_encoder, ppd.image_encoder_name) == (encoder.identity, encoder.name)
        assert ppd.attention.weight(0).dtype == torch.float16

    @pytest.mark.parametrize("kind", ["base", "plus"])
    def test_answers_of_a_store_become_a_user_with_both_sides(self, tmp_path, unet, kind):
        from palate.adapters.comparisons import Comparison, PreferenceStore
        from palate.adapters.encoders import load_encoder
        from palate.adapters.ppd.model import encode_user
        from PIL import Image

        encoder = load_encoder("playground")
        vectors, states = encoder.image_states([Image.new("RGB", (32, 32), "red")])
        assert (vectors.norm(dim=-1) - 1).abs() > 0.1  # their own length
        if kind == "base":
            state = linear() | {"proj.weight": drawn(TOKENS * WIDTH, vectors.shape[1])}
        else:
            state = resampler() | {"proj_in.weight": drawn(128, states.shape[2])}
        ppd: PPD = read(nested(state, layers_of(unet)), layers=layers_of(unet))
        store = PreferenceStore(tmp_path)
        red, blue = (store.add_image(Image.new("RGB", (32, 32), colour)) for colour in ("red", "blue"))
        store.add(Comparison(person="mara", left=red, right=blue, outcome="left"))
        user = encode_user(store, encoder, "mara", ppd)
        seen = vectors if kind == "base" else states.flatten(1)
        torch.testing.assert_close(user.tokens, ppd.encoder(seen[None])[0], atol=1e-4, rtol=1e-4)
        assert user.pairs == 1 and user.negative is not None and not torch.equal(user.negative, user.tokens)
