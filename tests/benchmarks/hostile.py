"""Files made by hand to hurt who reads them: bombs, lies, overlaps, endless nesting, paths that lead elsewhere.

Each function yields (what it is, its bytes). `fuzz.py` and `tests/unit/test_fuzz.py` give them to Palate's readers.
"""

from __future__ import annotations

import functools
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

Hostile = Iterator[tuple[str, bytes]]
MARK = "/tmp/palate-was-here"  # a file that is there if anything was run
MB = 1 << 20


def once(make: Callable[[], Hostile]) -> Callable[[], Hostile]:
    """Make the files at the first call only."""
    made = functools.cache(lambda: tuple(make()))
    return lambda: iter(made())


def safetensors(good: bytes) -> Hostile:
    """Lies about lengths, shapes, types and places; keys twice; headers that are too long, too deep or too many."""
    length = int.from_bytes(good[:8], "little")
    header, body = json.loads(good[8 : 8 + length]), good[8 + length :]
    name = next(key for key in header if key != "__metadata__")
    entry, about = header[name], header.get("__metadata__", {})

    def packed(told: Any, data: bytes = body) -> bytes:
        text = told if isinstance(told, bytes) else json.dumps(told).encode()
        return len(text).to_bytes(8, "little") + text + data

    yield "header of 2^63 bytes", (2**63).to_bytes(8, "little") + good[8:]
    yield "header of 900 MB said", (900 << 20).to_bytes(8, "little") + good[8:]
    yield "header of 20 MB of spaces", packed(b"{" + b" " * (20 * MB) + b"}")
    yield "nesting", packed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "shape of 1e9 elements", packed(header | {name: entry | {"shape": [10**9]}})
    yield "shape of 1e18 elements", packed(header | {name: entry | {"shape": [10**9, 10**9]}})
    yield "shape of a billion sides", packed(header | {name: entry | {"shape": [1] * 100_000}})
    yield "negative shape", packed(header | {name: entry | {"shape": [-1]}})
    yield "shape of text", packed(header | {name: entry | {"shape": ["8"]}})
    yield "shape of 1e9 without numbers", packed(header | {name: entry | {"shape": [10**9], "data_offsets": [0, 0]}})
    yield "wrong dtype", packed(header | {name: entry | {"dtype": "BOOL"}})
    yield "another dtype of that size", packed(header | {name: entry | {"dtype": "I32"}})
    yield "unknown dtype", packed(header | {name: entry | {"dtype": "OBJECT"}})
    yield "offsets outside", packed(header | {name: entry | {"data_offsets": [0, 10**12]}})
    yield "offsets of 2^64", packed(header | {name: entry | {"data_offsets": [2**64, 2**64 + 8]}})
    yield "offsets backwards", packed(header | {name: entry | {"data_offsets": [8, 0]}})
    yield "overlapping", packed(header | {"again": entry})
    yield "a gap", packed(header, b"\0" * 64 + body)
    yield "keys twice", packed(json.dumps(header)[:-1].encode() + b"," + json.dumps({name: entry})[1:].encode())
    twice = json.dumps({"__metadata__": about})[1:].encode()
    yield "metadata twice", packed(json.dumps(header)[:-1].encode() + b"," + twice)
    yield "metadata of numbers", packed(header | {"__metadata__": {"format": 1}})
    yield "metadata of 2 MB", packed(header | {"__metadata__": about | {"person": "x" * (2 * MB)}})
    yield "no tensors", packed({"__metadata__": about}, b"")
    said = json.dumps({"__metadata__": about})[:-1].encode()
    for count in (20_000, 200_000):
        yield f"{count:,} empty tensors", packed(said + _empty_tensors(count) + b"}", b"")
    yield "tensor called ../../x", packed(header | {"../../x": entry})
    yield "NaN", packed(header, b"\xff" * len(body))
    yield "a pickle", b"\x80\x04" + _call("os", "system", f"touch {MARK}")
    yield "a list", packed([1, 2])
    yield "empty", b""


@functools.cache
def _empty_tensors(count: int) -> bytes:
    return b"".join(b',"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % number for number in range(count))


@once
def pickles() -> Hostile:
    """What `torch.load` might be led to: code, packed bombs, tensors of more numbers than there are, nesting."""
    touch = f"touch {MARK}"
    for protocol in (b"", b"\x80\x02", b"\x80\x04"):
        yield f"code, {protocol!r}", protocol + _call("os", "system", touch)
    yield "code in a zip", zipped(b"\x80\x02" + _call("posix", "system", touch))
    yield "eval in a zip", zipped(b"\x80\x02" + _call("builtins", "eval", f"open({MARK!r},'w')"))
    yield "code by torch", zipped(b"\x80\x02" + _call("torch", "load", "/etc/passwd"))
    yield "1e9 numbers said of 8", zipped(tensor(10**9, [10**9], [1]))
    yield "one number a billion times", zipped(tensor(8, [10**9], [0]))
    yield "a view outside", zipped(tensor(8, [8], [10**6]))
    yield "negative size", zipped(tensor(8, [-8], [1]))
    yield "packed a thousandfold", zipped(tensor(32 * MB, [32 * MB], [1]), bytes(128 * MB), zipfile.ZIP_DEFLATED)
    yield "a packed pickle", zipped(b"\x80\x02X" + struct.pack("<I", 64 * MB) + bytes(64 * MB) + b".", pack=8)
    yield "no pickle in the zip", zipped(None)
    yield "parts that lead elsewhere", zipped(tensor(8, [8], [1]), more={"../../../tmp/palate-was-here": b"x"})
    yield (
        "two pickles",
        zipped(tensor(8, [8], [1]), more={"archive/data.pkl": b"\x80\x02" + _call("os", "system", touch)}),
    )
    yield "doubled forty times", zipped(b"\x80\x02)" + b"q\x00h\x00\x86" * 40 + b".")
    yield "nested 200,000 deep", zipped(b"\x80\x02" + b"(" * 200_000 + b")" + b"t" * 200_000 + b".")
    yield "text of 2 GB said", zipped(b"\x80\x02X\xff\xff\xff\x7fx.")
    yield "a number of 2 GB said", zipped(b"\x80\x02\x8b\xff\xff\xff\x7fx.")
    yield "old way, cut off", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    yield "only the end of a zip", b"PK\x05\x06" + bytes(18)
    yield "only its beginning", b"PK\x03\x04" + bytes(64)
    yield "empty", b""


def pngs(good: bytes) -> Hostile:
    """Compressed texts and profiles that are bombs, sizes that are lies, chunks without end."""
    header, rest = good[:33], good[33:]  # signature and IHDR; the others

    def sized(width: int, height: int, *more: bytes) -> bytes:
        return good[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)) + b"".join(more)

    bomb, end = _bomb(), chunk(b"IEND", b"")
    yield "zTXt bomb", header + chunk(b"zTXt", b"parameters\0\0" + bomb) + rest
    yield "iTXt bomb", header + chunk(b"iTXt", b"prompt\0\1\0\0\0" + bomb) + rest
    yield "zTXt bombs", header + chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(MB - 1), 9)) * 200 + rest
    yield "iCCP bomb", header + chunk(b"iCCP", b"x\0\0" + bomb) + rest
    yield "text of 16 MB", header + chunk(b"tEXt", b"parameters\0" + b"x" * (16 * MB)) + rest
    yield "data bomb", sized(8, 8, chunk(b"IDAT", bomb), end)
    yield "2^31 pixels wide", sized(2**31 - 1, 1, chunk(b"IDAT", bomb), end)
    yield "65535 x 65535", sized(65535, 65535, chunk(b"IDAT", bomb), end)
    yield "no pixel", sized(0, 0, end)
    yield "8000 x 8000 without data", sized(8000, 8000, chunk(b"IDAT", b""), end)
    yield "chunk of 2^31 bytes said", header + struct.pack(">I", 2**31 - 1) + b"plTe" + bytes(64)
    yield "200,000 chunks", header + chunk(b"prIv", b"") * 200_000 + rest
    yield "a million pictures", header + chunk(b"acTL", struct.pack(">II", 10**6, 0)) + rest
    nested = '{"prompt":' * 20_000 + "1" + "}" * 20_000
    yield "a graph nested 20,000 deep", header + chunk(b"tEXt", b"prompt\0" + nested.encode()) + rest
    circle = {"1": {"inputs": {"positive": ["1", 0], "negative": ["1", 0], "seed": 10**400}}}
    yield "a graph in a circle", header + chunk(b"tEXt", b"prompt\0" + json.dumps(circle).encode()) + rest
    yield "a carried pickle", header + chunk(b"plTe", b"\x80\x04" + _call("os", "system", f"touch {MARK}")) + rest
    yield "carried 16 MB", header + chunk(b"plTe", bytes(16 * MB)) + rest


def pictures(good: bytes) -> Hostile:
    """The same in other formats, and what Pillow would open though it is no picture to compare."""
    yield from pngs(good)
    for side in (65535, 30000):
        size = struct.pack("<HH", side, side)
        yield f"GIF of {side}", b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + size + b"\0\x02\x02L\x01\0;"
    yield "BMP of 2^31", b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0) + bytes(24)
    yield "PPM of 1e18", b"P6 1000000000 1000000000 255\n\0"
    yield "TGA of 65535", b"\0\0\x0a" + bytes(9) + struct.pack("<HH", 65535, 65535) + b"\x18\0\x80\0\0\0"
    tags = [(256, 4, 1, 2**31), (257, 4, 1, 2**31), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 2**28, 8)]
    told = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    yield "TIFF of 2^31", b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + told + bytes(4)
    yield "TIFF in a circle", b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8)
    yield "EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch " + MARK.encode() + b") (w) file\n"
    yield "JPEG of 65535", b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9"
    yield "WebP of 16384", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(9)


def lines() -> Hostile:
    """Of JSON: lines without end, nesting, numbers that take an hour, names that lead elsewhere."""
    yield "a line of 16 MB", b'{"chosen": "' + b"x" * (16 * MB) + b'"}'
    yield "a million brackets", b"[" * 1_000_000
    yield "nesting", b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "a number of a million digits", b'{"image_0": "a", "image_1": "b", "label": ' + b"9" * 1_000_000 + b"}"
    for name in ("../../../etc/passwd", "/etc/passwd", "a\\u0000b", "x" * 5000, "..", "~/.ssh/id_rsa", "\\ud800"):
        yield f"the picture {name[:20]}", b'{"chosen": "%b", "rejected": "b.png"}' % name.encode()
    yield "keys twice", b'{"chosen": "a.png", "chosen": "/etc/passwd", "rejected": "b.png"}'
    yield "100,000 pictures", json.dumps({"image_path": ["a"] * 100_000, "rank": [1] * 100_000}).encode()
    yield "NaN and infinity", b'{"image_0": "a", "image_1": "b", "label": NaN}\n{"image_0": "a", "label": Infinity}'
    yield "zeros", bytes(8 * MB)
    yield "empty", b""


def cells() -> Hostile:
    """Of CSV."""
    yield "a field of 16 MB", b"Winner,Loser\n" + b"x" * (16 * MB) + b",b\n"
    yield "a quote that never ends", b'Winner,Loser\n"' + b"x,\n" * (4 * MB)
    yield "a million columns", b"Winner," * 1_000_000 + b"\na,b\n"
    yield "names elsewhere", b"Winner,Loser\n../../../etc/passwd,/etc/passwd\n"
    yield "names twice", b"Winner,Winner,Loser,Loser\na,b,c,d\n"
    yield "zeros", bytes(8 * MB)
    yield "empty", b""


@once
def parquets() -> Hostile:
    """Columns that unpack a thousandfold, and files whose pages lie (`hostile_parquet.py`)."""
    import hostile_parquet
    import pyarrow
    import pyarrow.parquet

    def written(**columns: Any) -> bytes:
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), buffer, compression="zstd")
        return buffer.getvalue()

    labels = {"label_0": [1.0], "label_1": [0.0]}
    yield "a picture of 96 MB in a few bytes", written(jpg_0=[bytes(96 * MB)], jpg_1=[b"b"], **labels)
    many = {key: value * 6 for key, value in labels.items()}
    yield "one of 15 MB, 6 times", written(jpg_0=[bytes(15 * MB)] * 6, jpg_1=[b"b"] * 6, **many)
    yield "one of 60 MB", written(jpg_0=[bytes(60 * MB)], jpg_1=[b"b"], **labels)
    yield "rows of nothing", written(jpg_0=[None] * 20_000)
    yield "empty", b""
    yield from hostile_parquet.pages()
    yield from hostile_parquet.ends()


def tensor(numel: int, shape: list[int], stride: list[int]) -> bytes:
    """A pickle of one float tensor as torch writes it, with these claims."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)

    sides = [b"(" + b"".join(map(number, sizes)) + b"t" for sizes in (shape, stride)]
    kept = b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + number(numel) + b"tQ"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + kept + b"K\0" + sides[0] + sides[1] + b"\x89N" + b"tR."


def zipped(
    pickle: bytes | None, numbers: bytes = bytes(32), pack: int = 0, more: dict[str, bytes] | None = None
) -> bytes:
    """An archive as `torch.save` writes it."""
    import warnings

    buffer = io.BytesIO()
    parts = {} if pickle is None else {"archive/data.pkl": pickle}
    parts |= {"archive/byteorder": b"little", "archive/data/0": numbers, "archive/version": b"3\n"}
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", pack) as archive:
        warnings.simplefilter("ignore")  # of names twice
        for name, content in [*parts.items(), *(more or {}).items()]:
            archive.writestr(name, content)
    return buffer.getvalue()


@functools.cache
def _bomb() -> bytes:
    return zlib.compress(bytes(128 * MB), 1)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _call(module: str, name: str, argument: str) -> bytes:
    """Opcodes that call a function."""
    return f"c{module}\n{name}\n(".encode() + b"X" + struct.pack("<I", len(argument)) + argument.encode() + b"tR."
