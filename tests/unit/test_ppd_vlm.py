"""Profiles by a vision-language model: LLaVA-OneVision's own classes at a tiny size, with random weights."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import PPDError
from palate.adapters.ppd import profiles
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.layers import LayerShape
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.profiles import (
    PicturePair,
    Profile,
    VisionLanguageModel,
    disjoint_chunks,
    load_vlm,
    picture_pairs,
)
from palate.adapters.ppd.vlm import VLMEncoder
from PIL import Image

LAYERS, HIDDEN = 3, 16
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} answer"
)


def tiny_processor():
    """A tokenizer of single letters and LLaVA-OneVision's own picture processor, nothing from the hub."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlavaOnevisionProcessor, PreTrainedTokenizerFast
    from transformers.models.llava_onevision.image_processing_llava_onevision import LlavaOnevisionImageProcessor
    from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor

    special = ["<unk>", "<pad>", "<eos>", "<image>", "<video>"]
    letters = [chr(code) for code in range(32, 127)] + ["\n"]
    vocabulary = {piece: number for number, piece in enumerate(special + letters)}
    letters_only = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    letters_only.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters_only,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=["<image>", "<video>"],
    )
    size = {"height": 8, "width": 8}
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[8, 8]]),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )


def tiny_model(processor, seed: int = 0):
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    tokenizer = processor.tokenizer
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=8,
            patch_size=4,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=32,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=4096,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[8, 8]],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaOnevisionForConditionalGeneration(config)
        for parameter in model.parameters():
            parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(scope="module")
def vlm() -> VisionLanguageModel:
    processor = tiny_processor()
    return VisionLanguageModel(tiny_model(processor), processor, "tiny")


def pairs(count: int = 4) -> list[PicturePair]:
    colours = ("red", "blue", "green", "white", "black")
    return [
        PicturePair(Image.new("RGB", (12, 8), colours[n]), Image.new("RGB", (8, 8), colours[n + 1]), f"a star {n}")
        for n in range(count)
    ]


class TestProfile:
    def test_states_are_those_of_the_last_step_of_generating(self, vlm):
        """The paper reads hidden_states[-1] of generate: all layers, one place, the last token but one."""
        profile = vlm.profile(pairs(), max_new_tokens=6)
        text = vlm.processor.apply_chat_template(profiles._conversation(pairs()), add_generation_prompt=True)
        pictures = [side for pair in pairs() for side in (pair.chosen, pair.rejected)]
        inputs = vlm.processor(images=pictures, text=text, return_tensors="pt")
        with torch.no_grad():
            said = vlm.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=6,
                output_hidden_states=True,
                return_dict_in_generate=True,
            )
        theirs = torch.stack([layer[0, -1] for layer in said.hidden_states[-1]])
        assert profile.states.shape == theirs.shape == (LAYERS + 1, HIDDEN) and profile.steps == 6
        torch.testing.assert_close(profile.states, theirs, atol=1e-4, rtol=1e-4)
        ids = said.sequences[0, inputs["input_ids"].shape[1] :]
        assert profile.text == vlm.processor.decode(ids, skip_special_tokens=True).strip()

    def test_the_prompt_has_four_pairs_chosen_first_and_every_picture_in_its_place(self, vlm):
        text = vlm.processor.apply_chat_template(profiles._conversation(pairs()), add_generation_prompt=True)
        assert text.count("<image>") == 8 and "Pair 4. The images were made from the text: a star 3" in text
        first = text.index("<image> is the image they preferred.")
        assert first < text.index("<image> is the image they did not prefer.") < text.index("Pair 2.")
        assert text.index("Pair 4\nPreferred Image: ...") < text.index("User Profile: ...")

    def test_pictures_count(self, vlm):
        swapped = [PicturePair(pair.rejected, pair.chosen, pair.prompt) for pair in pairs()]
        assert not torch.equal(vlm.profile(pairs(), 3).states, vlm.profile(swapped, 3).states)

    def test_an_answer_that_ends_at_once_is_refused(self, vlm):
        first = vlm.profile(pairs(1), 2)
        assert first.steps == 2
        text = vlm.processor.apply_chat_template(profiles._conversation(pairs(1)), add_generation_prompt=True)
        inputs = vlm.processor(images=[pairs(1)[0].chosen, pairs(1)[0].rejected], text=text, return_tensors="pt")
        with torch.no_grad():
            says = int(vlm.model(**inputs).logits[0, -1].argmax())
        vlm.model.generation_config.eos_token_id = says
        try:
            with pytest.raises(PPDError, match="tiny ended its answer after 1 token"):
                vlm.profile(pairs(1), 5)
        finally:
            vlm.model.generation_config.eos_token_id = None
        with pytest.raises(PPDError, match="found no pair"):
            vlm.profile([])

    def test_the_summary_is_what_stands_after_its_heading(self):
        said = Profile("Pair 1 ...\nUser Profile: likes stars.\n", torch.zeros(1, 1), 3)
        assert said.summary == "likes stars."
        assert Profile("likes stars", torch.zeros(1, 1), 3).summary == "likes stars"


class TestLoading:
    def test_a_saved_model_loads_and_says_the_same(self, vlm, tmp_path):
        vlm.model.save_pretrained(tmp_path)
        vlm.processor.save_pretrained(tmp_path)
        loaded = load_vlm(tmp_path, device="cpu")
        assert loaded.profile(pairs(1), 3).text == vlm.profile(pairs(1), 3).text
        assert loaded.identity == vlm.identity != VisionLanguageModel(tiny_model(vlm.processor, 1), None).identity

    def test_what_is_missing_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
        with pytest.raises(PPDError, match="bitsandbytes isn't installed"):
            load_vlm(tmp_path, four_bit=True)
        with pytest.raises(PPDError, match="expected LLaVA-OneVision in transformers' layout"):
            load_vlm(tmp_path)


class TestChunks:
    def test_chunks_share_no_pair_and_leftovers_are_dropped(self):
        chunks = disjoint_chunks(list(range(11)), size=4)
        assert [len(chunk) for chunk in chunks] == [4, 4] and len({*chunks[0], *chunks[1]}) == 8
        assert disjoint_chunks(list(range(11)), size=4) == chunks
        assert disjoint_chunks(list(range(11)), size=4, seed=1) != chunks
        assert len(disjoint_chunks(list(range(100)), most=3)) == 3 and disjoint_chunks([1, 2, 3]) == []


class TestPeople:
    def test_answers_become_pairs_profiles_and_a_user(self, vlm, tmp_path):
        """Store to embedding: eight answers, one of whose pictures is gone, make one chunk of four and a user."""
        store = PreferenceStore(tmp_path)
        colours = ("red", "blue", "green", "white", "black", "orange", "pink", "brown", "grey")
        ids = [store.add_image(Image.new("RGB", (8, 8), colour)) for colour in colours]
        for one, other in itertools.pairwise(ids):
            store.add(Comparison(person="mara", left=one, right=other, outcome="right", prompt="a star"))
        store.image_path(ids[0]).unlink()
        found = picture_pairs(store, "mara")
        assert len(found) == 7 and found[0].chosen.getpixel((0, 0)) == (128, 128, 128) and found[0].prompt == "a star"
        assert len(picture_pairs(store, "mara", most=2)) == 2
        (chunk,) = disjoint_chunks(found)
        profile = vlm.profile(chunk, max_new_tokens=3)
        attention = UserAttention([LayerShape("a.attn2", 8, 8, 2, 8)], width=6)
        ppd = PPD(attention, VLMEncoder(LAYERS + 1, HIDDEN, 6), "custom")
        user = ppd.encoder.user([profile], ppd, "mara", pairs=4)
        assert user.tokens.shape == (LAYERS + 1, 6) and (user.ppd, user.pairs) == (ppd.identity, 4)
        torch.testing.assert_close(user.tokens, ppd.encoder(profile.states.flatten()[None, None])[0].detach())
        with pytest.raises(PPDError, match="'mara': found no profile"):
            ppd.encoder.user([], ppd, "mara")


class TestEncoder:
    def test_each_state_becomes_a_normed_token(self):
        encoder = VLMEncoder(LAYERS, HIDDEN, 6)
        states = torch.randn(2, 1, LAYERS * HIDDEN, generator=torch.Generator().manual_seed(0))
        tokens = encoder(states)
        by_hand = encoder.norm(encoder.projection(states.view(2, LAYERS, HIDDEN)))
        torch.testing.assert_close(tokens, by_hand)
        assert encoder.tokens == LAYERS and tokens.shape == (2, LAYERS, 6)

    def test_the_last_state_alone_makes_as_many_tokens_as_asked(self):
        encoder = VLMEncoder(LAYERS, HIDDEN, 6, tokens=4)
        states = torch.randn(1, 1, LAYERS * HIDDEN, generator=torch.Generator().manual_seed(0))
        other = states.clone()
        other[..., :-HIDDEN] = 0
        assert encoder(states).shape == (1, 4, 6) and torch.equal(encoder(states), encoder(other))

    def test_nobody_is_the_branch_off_and_profiles_are_averaged_in_any_order(self):
        encoder = VLMEncoder(LAYERS, HIDDEN, 6)
        states = torch.randn(2, 3, LAYERS * HIDDEN, generator=torch.Generator().manual_seed(0))
        mask = torch.tensor([[True, True, True], [False, False, False]])
        tokens = encoder(states, None, mask)
        assert not bool(tokens[1].any())
        torch.testing.assert_close(tokens[0], encoder(states.flip(1))[0])

    def test_it_learns_through_the_mask_and_refuses_other_models(self):
        encoder = VLMEncoder(LAYERS, HIDDEN, 6)
        encoder(torch.ones(1, 1, LAYERS * HIDDEN))[..., 0].sum().backward()
        assert encoder.projection.weight.grad.abs().sum() > 0
        with pytest.raises(PPDError, match="3 x 16 = 48"):
            encoder(torch.zeros(1, 1, 29 * 3584))
        with pytest.raises(PPDError, match="expected 1 or more of each"):
            VLMEncoder(0, HIDDEN, 6)
