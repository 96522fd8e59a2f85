"""Mutated and hostile files for every reader: each ends in what it should be or in one of Palate's named errors.

    python tests/benchmarks/fuzz.py --files 100000 --seed 0

prints one line a format: mutated files, how many were read all the same, seconds, hostile files made by hand
(`hostile.py`), and the most memory that one read took. Anything but a named error, and more memory than the format may
have, stops it with the file that did it. `tests/unit/test_fuzz.py` runs the same with few files.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from palate.adapters.errors import PreferenceError

sys.path.insert(0, str(Path(__file__).parent))

import hostile

MEMORY = 2 << 30  # bytes that a reader may have beside what the libraries take
INTERESTING = (b"\0", b"\xff", b"{", b"}", b'"', b"[", b"]", b":", b",", b"9999999999", b"-1", b"1e999", b"NaN", b"../")


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name, ending: Of the format.
        seeds: Good files' bytes.
        read: Reads one, given its path.
        hostile: Hand-made files, by what they are.
        most: MB that a read may take at its height, beside four times the file.
    """

    name: str
    ending: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]
    hostile: Callable[[], hostile.Hostile] = field(default=lambda: iter(()))
    most: int = 64


def formats(folder: Path) -> list[Format]:
    """All that Palate reads of other people's."""
    from palate.adapters.comparisons import read_image
    from palate.adapters.encoders.load import read_state
    from palate.adapters.exchange import aesthetic_head, facts_of_picture, read_aesthetic_gradient, read_source
    from palate.adapters.files import describe, load_embedding, load_ppd, load_taste, load_user
    from palate.adapters.files.lora_file import load_lora_file
    from palate.adapters.ppd.ip_file import read_ip_state
    from palate.adapters.steering.checkpoint_kind import read_shapes

    def rows(file: Path) -> None:
        for _ in read_source(file):
            pass

    def both(file: Path) -> None:
        describe(file)
        load_taste(file)

    class Clip:
        identity, name = "e" * 64, "ViT-L-14"

    made = _good(folder)

    def weights(name: str, read: Callable[[Path], Any], seed: str = "") -> Format:
        good = made[seed or name]
        return Format(name, ".safetensors", (good,), read, lambda: hostile.safetensors(good))

    def pickled(name: str, ending: str, seed: str, read: Callable[[Path], Any]) -> Format:
        return Format(name, ending, (made[seed],), read, hostile.pickles)

    listed = b"[" + made["lines"].strip().replace(b"\n", b",") + b"]"
    pngs = lambda: hostile.pngs(made["png"])  # noqa: E731
    return [
        weights("taste", both),
        Format("taste in a picture", ".png", (made["carrier"],), both, pngs),
        weights("user", load_user),
        weights("PPD", load_ppd),
        weights("embedding", load_embedding),
        weights("LoRA", load_lora_file),
        weights("IP-Adapter", lambda file: read_ip_state(str(file), file.name)),
        weights("CLIP", read_state, "IP-Adapter"),
        weights("checkpoint", read_shapes, "IP-Adapter"),
        pickled("aesthetic gradient", ".pt", "gradient", lambda file: read_aesthetic_gradient(file, Clip, 8)),
        pickled("aesthetic score", ".pth", "head", aesthetic_head),
        pickled("pickled IP-Adapter", ".bin", "ip", lambda file: read_ip_state(str(file), file.name)),
        pickled("pickled CLIP", ".pt", "ip", read_state),
        Format("JSON lines", ".jsonl", (made["lines"],), rows, hostile.lines),
        Format("JSON", ".json", (listed,), rows, hostile.lines, 256),
        Format("CSV", ".csv", (b"Winner,Loser\na.png,b.png\nc.png,d.png\n",), rows, hostile.cells, 256),
        Format("parquet", ".parquet", (made["parquet"],), rows, hostile.parquets, 256),
        Format(
            "picture",
            ".png",
            (made["png"], made["jpeg"], made["webp"], made["gif"]),
            read_image,
            lambda: hostile.pictures(made["png"]),
            1200,  # of the largest that is allowed, 8192 x 8192
        ),
        Format("picture's own words", ".png", (made["told"], made["graph"]), facts_of_picture, pngs, 128),
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


def by_hand(one: Format, folder: Path) -> tuple[int, int]:
    """Read the hostile files of a format; return how many, and the most bytes that one took.

    Raises:
        AssertionError: as `run`, or a read took more than it may; nothing of a file was run.
    """
    file, count, most = folder / f"hostile{one.ending}", 0, 0
    file.write_bytes(one.seeds[0])
    tried(one, file, "a good one")  # what is imported at the first read is no read's memory
    for which, data in one.hostile():
        file.write_bytes(data)
        with Height() as height:
            tried(one, file, which)
        allowed = (one.most << 20) + 4 * len(data)
        assert height.grown <= allowed, f"{one.name}, {which}: {height.grown >> 20} MB, allowed {allowed >> 20}"
        assert not Path(hostile.MARK).exists(), f"{one.name}, {which}: it was run"
        count, most = count + 1, max(most, height.grown)
    return count, most


class Height:
    """How much more memory this process had meanwhile than before; 0 where Linux doesn't say."""

    grown = 0

    def __enter__(self) -> Height:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # else a read may have what others left
            Path("/proc/self/clear_refs").write_text("5")  # the height is counted anew
        self._before = self._said("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.grown = max(0, self._said("VmHWM") - self._before)

    @staticmethod
    def _said(name: str) -> int:
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) << 10
        return 0


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
        "PPD": save_ppd(ppd, folder / "ppd.safetensors"),
        "embedding": save_embedding(
            PortableEmbedding({"clip_l": torch.randn(2, 8)}), folder / "mara-taste.safetensors"
        ),
        "LoRA": save_lora(lora, folder / "lora.safetensors", "sd15", {}),
    }
    found = {name: file.read_bytes() for name, file in made.items()}
    found |= _pickles()
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


def _pickles() -> dict[str, bytes]:
    """What others save with torch, and the same tensors in safetensors."""
    import io

    from safetensors.torch import save

    adapter = {"image_proj": {"proj.weight": torch.randn(6, 4)}, "ip_adapter": {}}
    adapter["ip_adapter"] |= {f"{place}.to_{side}_ip.weight": torch.randn(8, 6) for place in (1, 3) for side in "kv"}
    head = {f"layers.{n}.{part}": torch.randn(shape) for n in (0, 2) for part, shape in _HEAD[n].items()}
    found = {}
    for name, state in (("gradient", torch.randn(1, 8)), ("head", head), ("ip", adapter)):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        found[name] = buffer.getvalue()
    found["IP-Adapter"] = save({f"{part}.{name}": v for part, inner in adapter.items() for name, v in inner.items()})
    return found


_HEAD = {0: {"weight": (4, 8), "bias": (4,)}, 2: {"weight": (1, 4), "bias": (1,)}}


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
        hostile.parquets()  # making them takes more than reading them may
        _limit_memory()
        print(f"{'format':22}{'files':>9}{'read':>9}{'seconds':>9}{'by hand':>9}{'MB a read':>11}")
        for one in known:
            if given.only not in one.name:
                continue
            count, most = by_hand(one, folder)
            began = time.monotonic()
            read = run(one, given.files, given.seed, folder)
            seconds = time.monotonic() - began
            print(f"{one.name:22}{given.files:9,}{read:9,}{seconds:9.0f}{count:9}{most >> 20:11,}", flush=True)
    return 0


def _limit_memory() -> None:
    """So that a reader that asks for too much fails here and not the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


if __name__ == "__main__":
    sys.exit(main())
