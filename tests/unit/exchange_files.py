"""Files of other tools for the tests that read them."""

import io
import json

from palate.adapters.exchange import read_source
from PIL import Image


def picture(number):
    return Image.new("RGB", (8, 8), (number * 40 % 256, number * 90 % 256, 7))


def png(number):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def read(folder, name, *rows):
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return list(read_source(folder / name))


def told(one):
    """Chosen and rejected by number, or the outcome."""
    return one.outcome if one.chosen is None else (int(one.chosen.stem), int(one.rejected.stem))
