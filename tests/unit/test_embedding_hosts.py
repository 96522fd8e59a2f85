"""Embedding files in diffusers' own loader, and what our own conditioner makes of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import sdxl_models as xl
import torch
from palate.adapters.errors import SteeringError
from palate.adapters.files import save_embedding
from palate.adapters.steering import Generator, TextConditioner
from palate.adapters.steering.inversion import train_embedding
from palate.adapters.steering.pipelines import prompt_towers
from palate.adapters.steering.portable import PortableEmbedding
from palate.adapters.steering.words import towers_of, with_word
from safetensors.torch import load_file

tiny = xl.tiny

NAME, PROMPT = "my-taste", "a red star"
ONE = PortableEmbedding({"clip_l": tiny.drawn(3, tiny.WIDTH, seed=1)})


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    return Generator(tiny.write_pipeline(tmp_path / "tiny"))


@pytest.fixture
def large(tmp_path: Path) -> Generator:
    folder = xl.write_sdxl(tmp_path / "tiny xl")
    return Generator(folder, encoder=(xl.large_encoder(), tiny.encoder()))


def in_place(tower, vectors: torch.Tensor) -> torch.Tensor:
    """Penultimate and last states of PROMPT with vectors put in behind it, by a plain run of transformers."""
    ids = tower.token_ids(PROMPT)
    end, count = int((ids[0] == tiny.EOS).int().argmax()), len(vectors)
    ids[0, end : end + count], ids[0, end + count] = tiny.BOS, tiny.EOS
    inputs = tower.text_encoder.get_input_embeddings()(ids).detach().clone()
    inputs[0, end : end + count] = vectors
    hook = tower.text_encoder.get_input_embeddings().register_forward_hook(lambda *_: inputs)
    with torch.no_grad():
        out = tower.text_encoder(ids, output_hidden_states=True)
    hook.remove()
    return out


def test_diffusers_loads_one_text_encoders_file_and_gives_the_states_of_our_own_vectors(generator, tmp_path) -> None:
    path = save_embedding(ONE, tmp_path / NAME)
    ours = with_word(generator.conditioner, NAME, ONE).plain(f"{PROMPT} {NAME}").tokens
    by_hand = in_place(generator.conditioner.towers[0], ONE.vectors["clip_l"]).last_hidden_state
    pipeline = generator._pipeline
    pipeline.load_textual_inversion(str(path))
    theirs, _ = pipeline.encode_prompt(f"{PROMPT} {NAME}", "cpu", 1, False)
    assert torch.allclose(theirs, ours, atol=1e-5) and torch.allclose(theirs, by_hand, atol=1e-5)
    plain, _ = pipeline.encode_prompt(PROMPT, "cpu", 1, False)
    assert not torch.allclose(theirs, plain, atol=1e-2)


def test_diffusers_loads_sdxls_file_for_both_text_encoders(large, tmp_path) -> None:
    widths = {tower.name: tower.width for tower in large.conditioner.towers}
    embedding = PortableEmbedding({name: tiny.drawn(2, width, seed=3) for name, width in widths.items()})
    path = save_embedding(embedding, tmp_path / NAME)
    ours = with_word(large.conditioner, NAME, embedding).plain(f"{PROMPT} {NAME}")
    by_hand = [in_place(tower, embedding.vectors[tower.name]) for tower in large.conditioner.towers]
    pipeline, state = large._pipeline, load_file(path)
    parts = {"clip_l": (pipeline.text_encoder, pipeline.tokenizer)}
    parts["clip_g"] = (pipeline.text_encoder_2, pipeline.tokenizer_2)
    for name, (text_encoder, tokenizer) in parts.items():
        pipeline.load_textual_inversion(state[name], token=NAME, text_encoder=text_encoder, tokenizer=tokenizer)
    theirs, _, pooled, _ = pipeline.encode_prompt(f"{PROMPT} {NAME}", device="cpu")
    assert torch.allclose(theirs, ours.tokens, atol=1e-5) and torch.allclose(pooled, ours.pooled, atol=1e-5)
    states = torch.cat([out.hidden_states[-2] for out in by_hand], dim=-1)
    assert torch.allclose(theirs, states, atol=1e-5) and torch.allclose(pooled, by_hand[1].text_embeds, atol=1e-5)


def test_a_word_is_known_beside_the_pipeline_only(generator) -> None:
    before = generator.conditioner.plain(f"{PROMPT} {NAME}").tokens
    knowing = with_word(generator.conditioner, NAME, ONE)
    assert torch.equal(generator.conditioner.plain(f"{PROMPT} {NAME}").tokens, before)
    assert torch.equal(knowing.plain(PROMPT).tokens, generator.conditioner.plain(PROMPT).tokens)
    theirs, ours = (c.towers[0].text_encoder.final_layer_norm.weight for c in (generator.conditioner, knowing))
    assert theirs is ours


def test_the_pooled_vector_is_read_at_the_end_token_where_an_old_configuration_says_two(large) -> None:
    embedding = PortableEmbedding({tower.name: tiny.drawn(1, tower.width) for tower in large.conditioner.towers})
    wanted = with_word(large.conditioner, NAME, embedding).plain(f"{PROMPT} {NAME}").pooled
    for module in large._pipeline.text_encoder_2.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = 2
    assert torch.allclose(with_word(large.conditioner, NAME, embedding).plain(f"{PROMPT} {NAME}").pooled, wanted)


def test_what_does_not_fit_is_named(generator, large) -> None:
    with pytest.raises(SteeringError, match=r"for clip_l; expected one for clip_l and clip_g"):
        with_word(large.conditioner, NAME, ONE)
    with pytest.raises(SteeringError, match="5 wide; expected 32"):
        with_word(generator.conditioner, NAME, PortableEmbedding({"clip_l": torch.ones(1, 5)}))
    with pytest.raises(SteeringError, match="a word already"):
        with_word(with_word(generator.conditioner, NAME, ONE), NAME, ONE)


def test_one_is_trained_for_both_text_encoders_of_sdxl(large) -> None:
    tastes = [
        tiny.taste(),
        tiny.PlainTaste(tiny.drawn(xl.large_encoder().dim, seed=2), xl.large_encoder().identity, "large"),
    ]
    found = train_embedding(towers_of(large.conditioner), tastes, [PROMPT, "a blue hill"], steps=3)
    assert {name: len(rows) for name, rows in found.vectors.items()} == {"clip_l": 4, "clip_g": 4}
    assert found.encoders == {"clip_l": tiny.encoder().identity, "clip_g": xl.large_encoder().identity}
    taught = with_word(large.conditioner, NAME, found).plain(f"{PROMPT} {NAME}")
    assert not torch.equal(taught.pooled, large.conditioner.plain(f"{PROMPT} {NAME}").pooled)


def test_a_text_encoder_that_waits_elsewhere_works_where_it_should_and_goes_back(generator) -> None:
    text = generator.conditioner
    offloaded = TextConditioner(text.towers, device=torch.device("meta"))
    tower = text.towers[0]
    with pytest.MonkeyPatch.context() as patched:
        seen: list[torch.device | None] = []

        @contextlib.contextmanager
        def on(self, device):
            seen.append(device)
            yield
            seen.append(None)

        patched.setattr(type(tower), "on", on)
        train_embedding(towers_of(offloaded), [tiny.taste()], [PROMPT], steps=1)
    assert seen == [torch.device("meta"), None]


def test_a_conditioner_of_loaded_tokens_spells_them_out(generator, tmp_path: Path) -> None:
    """What diffusers loaded into the pipeline itself works in our conditioner, too."""
    pipeline = generator._pipeline
    pipeline.load_textual_inversion(str(save_embedding(ONE, tmp_path / NAME)))
    ours = TextConditioner(prompt_towers(pipeline)).plain(f"{PROMPT} {NAME}").tokens
    assert torch.equal(ours, pipeline.encode_prompt(f"{PROMPT} {NAME}", "cpu", 1, False)[0])
