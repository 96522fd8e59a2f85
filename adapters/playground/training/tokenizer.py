"""CLIP's tokenizer as files, made from the vocabulary that open_clip brings along."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

__all__ = ["write_tokenizer"]

_MERGES = 49152 - 256 - 2  # CLIP's vocabulary: 256 bytes, the same ending a word, the merges, two marks


def _byte_characters() -> list[str]:
    """A printable character for each byte, in the order in which CLIP's vocabulary lists them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + k) for k in range(len(others))]


def write_tokenizer(folder: Path) -> Path:
    """Write `vocab.json`, `merges.txt` and the tokenizer's settings, as every Stable Diffusion folder has them."""
    import open_clip

    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        merges = lines.read().split("\n")[1 : _MERGES + 1]
    characters = _byte_characters()
    words = [*characters, *(c + "</w>" for c in characters), *("".join(merge.split()) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: place for place, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": 77,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return folder
