"""The saved page of a taste: nothing comes from a network, nothing is anybody's markup, and it stays small."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import panel_fakes as fakes
import pytest
from palate.adapters.errors import CancelledError, FileFormatError, ImageError, StoreError
from palate.adapters.taste import LearningReport, Word, WordEffect
from palate.ui.panel.jobs import Job
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.studio import Studio
from palate.ui.panel.taste_document import LARGEST, Sheet, document
from palate.ui.panel.taste_learned import Learned, Place
from palate.ui.panel.taste_pages import write_page
from PIL import Image

HOSTILE = "</title><script>alert(1)</script>\"'"
SAID = WordEffect(Word(HOSTILE, "colour", HOSTILE), 1.0, 0.1)
LEARNED = Learned(
    person=HOSTILE,
    answers=30,
    subject=HOSTILE,
    pictures=4,
    best=("a", "b"),
    worst=("d", "c"),
    likes=(SAID,),
    dislikes=(SAID,),
    strip=("d", "c", "b", "a"),
    map=tuple(Place(image, x / 3, x / 3) for x, image in enumerate("dcba")),
    encoder="0123456789abcdef" * 4,
    encoder_name=HOSTILE,
    prompts={image: HOSTILE for image in "abcd"},
)
REPORT = LearningReport(
    "me", 30, 20, 15.0, 0.75, (0.6, 0.9), 0.5, 0.75, curve=((10, 0.6, 0.3, 0.8), (30, 0.75, 0.6, 0.9))
)


def read(image):
    return fakes.picture(ord(image[0]))


class Seen(HTMLParser):
    """Tags, and what any of their attributes points to."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.handlers = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data-large")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


@pytest.mark.parametrize(("named", "prompts"), [(False, False), (True, True)])
def test_nothing_is_fetched_and_nothing_is_markup(named, prompts):
    html = document(Sheet(LEARNED, REPORT, named, prompts, "1.2.3", 0.0), read)
    seen = Seen(html)
    assert all(address == "" or address.startswith("data:image/jpeg;base64,") for address in seen.addresses)
    assert seen.tags.count("script") == 2 and seen.handlers == []
    assert not re.search(r"@import|url\((?!data:)|\bfetch\(|XMLHttpRequest|WebSocket|<link|<iframe", html)
    assert "&lt;script&gt;alert(1)" in html and "<script>alert" not in html


def test_its_policy_allows_its_own_script_and_nothing_else():
    html = document(Sheet(LEARNED, REPORT), read)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_name_and_prompts_are_told_only_when_asked():
    learned = replace(LEARNED, person="Mara Muster", subject="a castle", prompts=dict.fromkeys("abcd", "a castle"))
    quiet, loud = (document(Sheet(learned, REPORT, told, told), read) for told in (False, True))
    assert "Mara" not in quiet and "castle" not in quiet
    assert "<h1>What Mara Muster likes</h1>" in loud and 'data-said="a castle"' in loud


def test_it_says_where_it_comes_from():
    html = document(Sheet(replace(LEARNED, encoder_name="tiny"), REPORT, version="1.2.3", created=86_400.0), read)
    assert "Palate 1.2.3 · 1970-01-02 · learned from 30 answers with tiny (0123456789ab)" in html
    assert '"curve": [[10, 0.6, 0.3, 0.8], [30, 0.75, 0.6, 0.9]]' in html


def test_it_stays_small_whatever_the_pictures_are():
    chance = np.random.default_rng(0)
    noise = Image.fromarray(chance.integers(0, 256, (512, 512, 3), dtype=np.uint8))
    names = [f"p{i}" for i in range(160)]
    places = tuple(Place(name, i / 160, 0.5) for i, name in enumerate(names))
    learned = replace(LEARNED, best=tuple(names[:8]), worst=tuple(names[8:16]), strip=tuple(names[:9]), map=places)
    html = document(Sheet(learned, REPORT), lambda image: noise)
    assert len(html.encode()) <= LARGEST
    assert html.count("<img") > 100


def test_pictures_that_are_lost_are_left_out():
    def some(image):
        if image == "a":
            raise ImageError("gone")
        return read(image)

    html = document(Sheet(LEARNED, None), some)
    assert html.count("<img") == 3 + 1 + 2 + 3  # strip, best, worst, map
    assert "pl-sure" not in html.partition("<body>")[2]


def test_a_page_is_saved_and_a_stopped_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", fakes.fake_tools())
    fakes.answer_some(studio.store)
    pages, job, stopped = Rooms(studio).pages, Job(), Job()
    stopped.stop()
    with pytest.raises(CancelledError):
        pages.save("me", "", True, False, stopped)
    with pytest.raises(FileFormatError, match="no such page"):
        pages.path("me.html")
    pages.save("me", "", True, False, job)
    assert pages.path("me.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in (tmp_path / "home" / "pages").iterdir()] == ["me.html"]
    pages.save("me", "", False, False, job)
    assert job.state()["file"] == "a-taste.html"
    studio.close()


def test_a_page_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot save the page"):
        write_page(tmp_path / "file" / "page.html", "")
