"""Mutated and hostile files for every reader: each ends in what it should be or in one of Palate's named errors.

    python tests/benchmarks/fuzz.py --files 100000 --seed 0

prints one line a format: files, how many were read all the same, seconds, and the most memory. Anything but a named
error stops it with the file that did it. `tests/unit/test_fuzz.py` runs the same with few files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from palate.adapters.errors import PreferenceError

MEMORY = 2 << 30  # bytes that a reader may have beside what the libraries take
INTERESTING = (b"\0", b"\xff", b"{", b"}", b'"', b"[", b"]", b":", b",", b"9999999999", b"-1", b"1e999", b"NaN", b"../")


@dataclass(frozen=True)
class Format:
    """One kind of file. name, ending; seeds: Good files' bytes; read: Reads one, given its path."""

    name: str
    ending: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]


def formats(folder: Path) -> list[Format]:
    """All that Palate reads of other people's."""
    from palate.adapters.comparisons import read_image
    from palate.adapters.exchange import facts_of_picture, read_aesthetic_gradient, read_source
    from palate.adapters.files import describe, load_embedding, load_ppd, load_taste, load_user
    from palate.adapters.files.lora_file import load_lora_file

    def rows(file: Path) -> None:
        for _ in read_source(file):
            pass

    def both(file: Path) -> None:
        describe(file)
        load_taste(file)

    class Clip:
        identity, name = "e" * 64, "ViT-L-14"

    made = _good(folder)
    return [
        Format("taste", ".safetensors", (made["taste"],), both),
        Format("taste in a picture", ".png", (made["carrier"],), both),
        Format("user", ".safetensors", (made["user"],), load_user),
        Format("PPD", ".safetensors", (made["ppd"],), load_ppd),
        Format("embedding", ".safetensors", (made["embedding"],), load_embedding),
        Format("LoRA", ".safetensors", (made["lora"],), load_lora_file),
        Format("aesthetic gradient", ".pt", (made["gradient"],), lambda file: read_aesthetic_gradient(file, Clip, 8)),
        Format("JSON lines", ".jsonl", (made["lines"],), rows),
        Format("JSON", ".json", (b"[" + made["lines"].strip().replace(b"\n", b",") + b"]",), rows),
        Format("CSV", ".csv", (b"Winner,Loser\na.png,b.png\nc.png,d.png\n",), rows),
        Format("parquet", ".parquet", (made["parquet"],), rows),
        Format("picture", ".png", (made["png"], made["jpeg"], made["webp"], made["gif"]), read_image),
        Format("picture's own words", ".png", (made["told"], made["graph"]), facts_of_picture),
    ]


def mutated(seeds: tuple[bytes, ...], rng: random.Random) -> bytes:
    """One of the seeds with a few things wrong: bits, bytes, cuts, repeats, splices, lengths, and words that hurt."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not data:
            break
        # Half of it in the first part, where headers are.
        place = rng.randrange(min(len(data), 400) if rng.random() < 0.5 else len(data))
        kind = rng.randrange(8)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.randrange(256)
        elif kind == 2:
            del data[place : place + rng.randrange(1, 40)]
        elif kind == 3:
            data[place:place] = data[place : place + rng.randrange(1, 40)]
        elif kind == 4:
            data[place : place + 4] = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(
                4, rng.choice(("big", "little"))
            )
        elif kind == 5:
            data[place : place + 1] = rng.choice(INTERESTING)
        elif kind == 6:
            del data[place:]
        else:
            other = rng.choice(seeds)
            data[place:] = other[rng.randrange(len(other)) :]
    return bytes(data)


def hostile(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Hand-made safetensors files: bombs, lies about lengths, overlaps, keys twice, shapes of 1e9 elements."""
    length = int.from_bytes(good[:8], "little")
    header, body = json.loads(good[8 : 8 + length]), good[8 + length :]
    name = next(key for key in header if key != "__metadata__")
    entry = header[name]

    def packed(told: Any, data: bytes = body) -> bytes:
        text = told if isinstance(told, bytes) else json.dumps(told).encode()
        return len(text).to_bytes(8, "little") + text + data

    yield "header of 2^63 bytes", (2**63).to_bytes(8, "little") + good[8:]
    yield "header of 900 MB said", (900 << 20).to_bytes(8, "little") + good[8:]
    yield "header of 5 MB of spaces", packed(b"{" + b" " * (5 << 20) + b"}")
    yield "nesting", packed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "shape of 1e9 elements", packed(header | {name: entry | {"shape": [10**9]}})
    yield "shape of 1e18 elements", packed(header | {name: entry | {"shape": [10**9, 10**9]}})
    yield "negative shape", packed(header | {name: entry | {"shape": [-1]}})
    yield "shape of text", packed(header | {name: entry | {"shape": ["8"]}})
    yield "wrong dtype", packed(header | {name: entry | {"dtype": "BOOL"}})
    yield "unknown dtype", packed(header | {name: entry | {"dtype": "OBJECT"}})
    yield "offsets outside", packed(header | {name: entry | {"data_offsets": [0, 10**12]}})
    yield "offsets backwards", packed(header | {name: entry | {"data_offsets": [8, 0]}})
    yield "overlapping", packed(header | {"again": entry})
    yield "keys twice", packed(json.dumps(header)[:-1].encode() + b"," + json.dumps({name: entry})[1:].encode())
    yield "metadata of numbers", packed(header | {"__metadata__": {"format": 1}})
    yield "metadata of 2 MB", packed(header | {"__metadata__": header["__metadata__"] | {"person": "x" * (2 << 20)}})
    yield "no tensors", packed({"__metadata__": header["__metadata__"]}, b"")
    yield "tensor called ../../x", packed(header | {"../../x": entry})
    yield "NaN", packed(header, b"\xff" * len(body))
    yield "a pickle", b"\x80\x04cos\nsystem\n(S'touch /tmp/palate-was-here'\ntR."
    yield "a list", packed([1, 2])
    yield "empty", b""


def run(one: Format, files: int, seed: int, folder: Path) -> int:
    """Read so many mutated files, and return how many were read without complaint.

    Raises:
        AssertionError: a reader ended otherwise than with a named error; the file is kept and named.
    """
    rng, read = random.Random(f"{seed}/{one.name}"), 0
    file = folder / f"fuzzed{one.ending}"
    for number in range(files):
        data = mutated(one.seeds, rng)
        file.write_bytes(data)
        read += tried(one, file, f"file {number} of seed {seed}")
    return read


def tried(one: Format, file: Path, which: str) -> bool:
    """Whether a file was read; a named error is the only other way to end."""
    try:
        one.read(file)
    except PreferenceError as error:
        assert str(error).strip(), f"{one.name}, {which}: an error without words"
        return False
    except BaseException as error:
        kept = Path(tempfile.gettempdir()) / f"palate-fuzz-{one.name.replace(' ', '-')}{one.ending}"
        kept.write_bytes(file.read_bytes())
        raise AssertionError(f"{one.name}, {which}: {type(error).__name__}: {error}; kept as {kept}") from error
    return True


def _good(folder: Path) -> dict[str, bytes]:
    """A small good file of each format."""
    import io

    from palate.adapters.files import save_ppd, save_taste, save_taste_picture, save_user
    from palate.adapters.files.embedding_file import save_embedding
    from palate.adapters.files.lora_file import save_lora
    from palate.adapters.ppd.attention import UserAttention
    from palate.adapters.ppd.layers import LayerShape
    from palate.adapters.ppd.model import PPD
    from palate.adapters.ppd.pairs_encoder import PairsEncoder
    from palate.adapters.ppd.user import User
    from palate.adapters.steering.portable import PortableEmbedding
    from palate.adapters.taste import Accuracy, Taste
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    torch.manual_seed(0)
    taste = Taste(
        torch.randn(8), "e" * 64, "ViT-L-14", "Mara", 12, gain=torch.randn(8, 2), accuracy=Accuracy(0.7, 0.5, 0.8, 9)
    )
    layer = LayerShape("down_blocks.0.attentions.0.transformer_blocks.0.attn2", 8, 8, 2, 8)
    ppd = PPD(
        UserAttention([layer], 6), PairsEncoder(8, 6), "sd15", image_encoder="e" * 64, image_encoder_name="ViT-L-14"
    )
    user = User(torch.randn(4, 6), ppd.identity, person="Mara", pairs=4, encoder="e" * 64, base="sd15")
    lora = {f"{layer.name}.to_q.{half}": torch.randn(shape) for half, shape in (("down", (2, 8)), ("up", (8, 2)))}
    made = {
        "taste": save_taste(taste, folder / "taste.safetensors"),
        "carrier": save_taste_picture(taste, folder / "taste.png"),
        "user": save_user(user, folder / "user.safetensors"),
        "ppd": save_ppd(ppd, folder / "ppd.safetensors"),
        "embedding": save_embedding(
            PortableEmbedding({"clip_l": torch.randn(2, 8)}), folder / "mara-taste.safetensors"
        ),
        "lora": save_lora(lora, folder / "lora.safetensors", "sd15", {}),
    }
    found = {name: file.read_bytes() for name, file in made.items()}
    torch.save(torch.randn(1, 8), folder / "gradient.pt")
    found["gradient"] = (folder / "gradient.pt").read_bytes()
    rows = [
        {"chosen": "a.png", "rejected": "b.png", "prompt": "a star"},
        {"jpg_0": "a.png", "jpg_1": "b.png", "label_0": 1.0, "label_1": 0.0},
        {"image_path": ["a.png", "b.png", "c.png"], "rank": [1, 2, 3]},
    ]
    found["lines"] = "\n".join(json.dumps(row) for row in rows).encode()
    image = Image.new("RGB", (6, 5), (200, 30, 90))
    for kind in ("png", "jpeg", "webp", "gif"):
        buffer = io.BytesIO()
        image.save(buffer, kind.upper())
        found[kind] = buffer.getvalue()
    graph = {"3": {"class_type": "KSampler", "inputs": {"seed": 5, "positive": ["6", 0], "negative": ["7", 0]}}}
    graph |= {number: {"class_type": "CLIPTextEncode", "inputs": {"text": number}} for number in ("6", "7")}
    for name, key, text in (
        ("told", "parameters", "a star\nSteps: 20, Seed: 7, Model: x"),
        ("graph", "prompt", json.dumps(graph)),
    ):
        said, buffer = PngInfo(), io.BytesIO()
        said.add_text(key, text)
        image.save(buffer, "PNG", pnginfo=said)
        found[name] = buffer.getvalue()
    found["parquet"] = _parquet(folder)
    return found


def _parquet(folder: Path) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = folder / "rows.parquet"
    rows = [{"jpg_0": b"a", "jpg_1": b"b", "label_0": 1.0, "label_1": 0.0, "caption": "x", "user_id": 1}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, compression="none")
    return file.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=100_000, help="mutated files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="formats whose name has this in it")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of pictures that say they are large, and of odd pickles
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        folder = Path(place)
        known = formats(folder)
        _limit_memory()
        print(f"{'format':22}{'files':>9}{'read':>9}{'seconds':>9}{'MB':>7}")
        for one in known:
            if given.only not in one.name:
                continue
            if one.ending == ".safetensors":
                for which, data in hostile(one.seeds[0]):
                    (folder / "hostile.safetensors").write_bytes(data)
                    tried(one, folder / "hostile.safetensors", which)
            began = time.monotonic()
            read = run(one, given.files, given.seed, folder)
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{one.name:22}{given.files:9,}{read:9,}{time.monotonic() - began:9.0f}{most:7,}", flush=True)
    return 0


def _limit_memory() -> None:
    """So that a reader that asks for too much fails here and not the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


if __name__ == "__main__":
    sys.exit(main())
