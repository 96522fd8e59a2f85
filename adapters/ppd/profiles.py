"""What a vision-language model says of a person who compared four pairs of pictures, and its state as it says it.

The person's four pairs go into one prompt, chosen picture first. The model describes them, explains the differences and
ends with a profile of the person; the states of all its layers at the last step are what PPD's denoiser is told.

Shapes: L layers and the embeddings (29 for the 7B model), H width of a state (3584).

Source: Dang et al. 2025, PPD, arXiv:2501.06655, and its released first stage. Differs: our own wording; the last step's
states come from running that step once more on the cache, since keeping those of all steps takes gigabytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from ..comparisons import PreferenceStore
from ..errors import ImageError, PPDError

__all__ = ["MODEL", "PicturePair", "Profile", "VisionLanguageModel", "disjoint_chunks", "load_vlm", "picture_pairs"]

MODEL = "llava-hf/llava-onevision-qwen2-7b-ov-chat-hf"  # the paper's, in transformers' layout
_Pair = TypeVar("_Pair")

_OPENING = "One person was shown {count} pairs of images and chose from each pair the one they like better."
_PAIR = "\nPair {number}. The images were made from the text: {prompt}\n"
_CHOSEN = " is the image they preferred. "
_REJECTED = " is the image they did not prefer."
_TASK = (
    "\n\nThink about style, visual quality and aesthetics. First describe both images of each pair. Then explain how "
    "they differ. At the end, sum up in a user profile what this person likes and dislikes. Write it in this form:\n"
)
_FORM = "Pair {number}\nPreferred Image: ...\nDispreferred Image: ...\nDifferences: ...\n"
_END = "User Profile: ..."


@dataclass(frozen=True)
class PicturePair:
    """One answer with its pictures.

    Attributes:
        chosen, rejected: Pictures.
        prompt: What they were made from; may be empty.
    """

    chosen: Image.Image
    rejected: Image.Image
    prompt: str = ""


@dataclass(frozen=True, eq=False)
class Profile:
    """What the model made of one person's pairs.

    Attributes:
        text: All it said, the profile at the end.
        states: (L, H) float32, at the last step.
        steps: Tokens it said.
    """

    text: str
    states: Tensor
    steps: int

    @property
    def summary(self) -> str:
        """What stands after "User Profile", or all of the text where that is missing: words to add to a prompt."""
        before, found, after = self.text.rpartition("User Profile")
        return (after if found else before + after).strip(" :*\n") or self.text.strip()


class VisionLanguageModel:
    """A frozen LLaVA-OneVision with its processor.

    Args:
        model: transformers' `LlavaOnevisionForConditionalGeneration`.
        processor: Its `LlavaOnevisionProcessor`, with a chat template.
        name: For people.
    """

    def __init__(self, model: Any, processor: Any, name: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.name = name or MODEL

    @property
    def identity(self) -> str:
        """64 hexadecimal digits: sha256 over its layout and the values of its norms, in 4 bits as in 16."""
        sizes = self.model.config.get_text_config()
        about = [type(self.model).__name__, sizes.hidden_size, sizes.num_hidden_layers, sizes.vocab_size]
        digest = hashlib.sha256(json.dumps(about).encode())
        for name, weight in sorted(self.model.named_parameters()):
            if weight.ndim == 1 and name.endswith("weight"):  # quantising leaves these as they are
                digest.update(f"{name}\n".encode())
                digest.update(weight.detach().to("cpu", torch.float16).numpy().tobytes())
        return digest.hexdigest()

    def profile(self, pairs: Sequence[PicturePair], max_new_tokens: int = 1024) -> Profile:
        """Describe the person who answered so.

        Args:
            pairs: Four in the paper; 1 or more.
            max_new_tokens: Where it is cut off at the latest, >= 2.

        Raises:
            PPDError: no pair, or the model said nothing.
        """
        if not pairs:
            raise PPDError("Cannot describe a person: found no pair; expected 1 or more. Answer some questions first.")
        text = self.processor.apply_chat_template(_conversation(pairs), add_generation_prompt=True)
        pictures = [picture.convert("RGB") for pair in pairs for picture in (pair.chosen, pair.rejected)]
        inputs = self.processor(images=pictures, text=text, return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        with torch.inference_mode():
            said = self.model.generate(
                **inputs, do_sample=False, max_new_tokens=max_new_tokens, return_dict_in_generate=True
            )
            ids = said.sequences[0, inputs["input_ids"].shape[1] :]
            if len(ids) < 2:
                raise PPDError(
                    f"Cannot describe this person: {self.name} ended its answer after {len(ids)} token; expected a "
                    "profile in words. Use the chat version of LLaVA-OneVision, and pictures that can be seen."
                )
            states = self._last_step(said.sequences, said.past_key_values)
        # Copied out of inference mode: these states may be trained on.
        return Profile(self.processor.decode(ids, skip_special_tokens=True).strip(), states.clone(), len(ids))

    def _last_step(self, sequences: Tensor, cache: Any) -> Tensor:
        """States (L, H) of the step that gave the last token: that step once more, on all of the cache but its own."""
        fed = sequences.shape[1] - 1
        cache.crop(-1)
        out = self.model(
            input_ids=sequences[:, fed - 1 : fed],
            attention_mask=torch.ones_like(sequences[:, :fed]),
            position_ids=torch.tensor([[fed - 1]], device=sequences.device),
            past_key_values=cache,
            output_hidden_states=True,
            use_cache=True,
        )
        return torch.stack([layer[0, -1] for layer in out.hidden_states]).float().cpu()


def load_vlm(source: str | Path = MODEL, device: str = "auto", four_bit: bool = False) -> VisionLanguageModel:
    """Load LLaVA-OneVision through transformers.

    Args:
        source: A folder or a name on the Hugging Face hub.
        device: "auto" (a GPU where there is one), "cuda", "cuda:1", "mps", "cpu".
        four_bit: Hold its weights in 4 bits (about 6 instead of 16 GB for the 7B model); needs bitsandbytes.

    Raises:
        PPDError: a package is missing, or the model can't be loaded.
    """
    if four_bit and importlib.util.find_spec("bitsandbytes") is None:
        raise PPDError(
            "Cannot load the vision-language model in 4 bits: bitsandbytes isn't installed; expected that package. "
            "Run `pip install bitsandbytes` (NVIDIA GPUs), or load it without 4 bits."
        )
    try:
        from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration
    except ImportError as missing:
        raise PPDError(
            "Cannot load a vision-language model: transformers is missing or too old; expected 4.50 or newer. "
            "Run `python install.py train`."
        ) from missing
    place = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.float32 if place == "cpu" else torch.float16
    more: dict[str, Any] = {"torch_dtype": kind}
    if four_bit:
        from transformers import BitsAndBytesConfig

        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind
        )
        more["device_map"] = {"": place}
    try:
        model = LlavaOnevisionForConditionalGeneration.from_pretrained(str(source), **more)
        processor = AutoProcessor.from_pretrained(str(source))
    except Exception as error:  # no network, no such name, not that architecture: one answer for all
        raise PPDError(
            f"Cannot load the vision-language model {str(source)!r}: {str(error)[:300]}; expected LLaVA-OneVision in "
            f"transformers' layout, such as {MODEL}."
        ) from error
    return VisionLanguageModel(model if four_bit else model.to(place), processor, Path(str(source)).name)


def picture_pairs(store: PreferenceStore, person: str, most: int = 80) -> list[PicturePair]:
    """A person's newest answers that prefer one of two pictures, with the pictures; what can't be read is left out.

    Args:
        store: Where the answers are.
        person: Whose.
        most: Pairs at most; the paper reads up to 20 chunks of four.
    """
    pairs: list[PicturePair] = []
    for comparison in reversed(store.comparisons(person)):
        if len(pairs) == most:
            break
        if comparison.chosen and comparison.rejected:
            with contextlib.suppress(ImageError):
                chosen, rejected = store.image(comparison.chosen), store.image(comparison.rejected)
                pairs.append(PicturePair(chosen, rejected, comparison.prompt))
    return pairs


def disjoint_chunks(pairs: Sequence[_Pair], size: int = 4, most: int = 20, seed: int = 0) -> list[list[_Pair]]:
    """Shuffle one person's pairs and cut them into chunks that share none; what is left over is dropped.

    Args:
        pairs: Of one person.
        size: Pairs a chunk (the paper tried 2 to 5), >= 1.
        most: Chunks at most.
        seed: Same seed, same chunks.
    """
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
    starts = range(0, len(pairs) - size + 1, size)
    return [[pairs[place] for place in order[start : start + size]] for start in starts][:most]


def _conversation(pairs: Sequence[PicturePair]) -> list[dict[str, Any]]:
    """One user turn, as chat templates take it: texts and places of pictures, chosen always before rejected."""
    parts: list[dict[str, str]] = [_text(_OPENING.format(count=len(pairs)))]
    for number, pair in enumerate(pairs, 1):
        parts.append(_text(_PAIR.format(number=number, prompt=pair.prompt or "(not known)")))
        parts += [{"type": "image"}, _text(_CHOSEN), {"type": "image"}, _text(_REJECTED)]
    form = "".join(_FORM.format(number=number) for number in range(1, len(pairs) + 1))
    parts.append(_text(_TASK + form + _END))
    return [{"role": "user", "content": parts}]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
