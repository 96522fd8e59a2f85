"""Generate and Share behind the page: painting in steps, several tastes, preferring, taste files. Fakes only."""

import runpy
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from palate.adapters.errors import (
    ComparisonError,
    EncoderError,
    EncoderMismatchError,
    FileFormatError,
    PPDError,
    SteeringError,
)
from palate.adapters.steering.portable import PortableEmbedding
from palate.ui.panel.blends import Part
from palate.ui.panel.jobs import Job, Jobs
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.studio import Studio
from palate.ui.panel.variety import beside_plain, in_words, most_different, variety
from palate.ui.panel.wish import Wish
from palate.ui.whose import PROMPT_STRENGTH

fakes = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "panel_fakes.py")))
LONG = 30.0
ME = {"source": "person:me", "weight": 1}


@pytest.fixture
def painter():
    return fakes.FakePainter()


@pytest.fixture
def rooms(tmp_path, monkeypatch, painter):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", fakes.fake_tools(painter))
    fakes.answer_some(studio.store, number=4)
    fakes.answer_some(studio.store, person="Ada", number=3, seed=5)
    yield Rooms(studio)
    studio.close()


def paint(rooms, job=None, person="me", **wish):
    job = job or Job()
    job.run(lambda job: rooms.easel.paint(Wish.read({"prompt": "a cat", "tastes": [ME]} | wish), person, job))
    return job.state()


def test_surprise_paints_more_seeds_plainly_and_takes_those_that_differ_most(rooms, painter):
    state = paint(rooms, seeds=[3, 4], surprise=1.0)
    seeds = list(dict.fromkeys(int(frame["seed"]) for frame in state["frames"]))
    assert {seed for _, seed in painter.asked} == {3, 4, 5, 6, 7, 8}
    images = dict(zip(range(3, 9), [painter._paint("a cat", seed, 0) for seed in range(3, 9)], strict=True))
    vectors = rooms.studio.encoder().encode_images(list(images.values()))
    farthest = 3 + int((vectors - vectors[0]).norm(dim=1).argmax())
    assert seeds == [3, farthest]
    assert len(rooms.gallery.shots()) == 4  # what was not taken is not kept
    assert painter.asked.count(("a cat", 3)) == 5  # plain once, though it was painted to choose from: 0, 0.5, 1, 1.5, 2


def test_no_surprise_and_one_picture_paint_what_was_asked_for(rooms):
    assert Wish(prompt="a", seeds=(1, 2)).candidates() == (1, 2)
    assert Wish(prompt="a", seeds=(1,), surprise=1.0).candidates() == (1,)
    assert Wish(prompt="a", seeds=(2**64 - 1, 5), surprise=0.5).candidates() == (2**64 - 1, 5, 0, 1)
    assert paint(rooms, seeds=[3], surprise=1.0)["variety"] == ""


def test_it_is_said_how_varied_pictures_with_a_taste_are(rooms):
    assert paint(rooms, seeds=[3, 4])["variety"].startswith("With taste they are ")
    assert paint(rooms, seeds=[3, 4], tastes=[])["variety"] == ""
    assert beside_plain(1.0) == "With taste they are as varied as without (100\u00a0%)"
    assert beside_plain(0.5) == "With taste they are clearly less varied than without (50\u00a0%)"
    assert [in_words(share) for share in (0.9, 0.5, 0.0)] == ["very varied", "rather alike", "nearly the same"]


def test_the_most_different_of_four_points_on_a_line_are_its_ends():
    """Rows 0, 1, 2, 10: from the first one, 10 is farthest; then 2, which is 2 from the nearest, 1 is 1."""
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert most_different(line, 2) == (0, 3)
    assert most_different(line, 3) == (0, 2, 3)
    assert variety(list(line[:2] + 1), list(line)) == 0.0  # on one side of the origin: the same direction
    assert variety([], list(line)) == 1.0


def for_me(rooms, **wish):
    return paint(rooms, **({"method": "user", "words": 2, "best": 3, "strength": 0.5} | wish))


def test_for_me_adds_liked_words_and_takes_the_best_of_three_by_the_taste(rooms, painter):
    fakes.answer_some(rooms.studio.store, number=60)
    state = for_me(rooms, seeds=[3, 4])
    taste, encoder = rooms.studio.taste("me"), rooms.studio.encoder()
    added = rooms.words.liked("a cat", [Part("person:me", 1.0)], 2)
    said = ", ".join(added)
    assert added and state["given"] == f"Your taste adds “{said}”, tells the denoiser and takes the best of 3."
    worded = f"a cat, {said}"
    utility = taste.utility(encoder.encode_images([painter._paint(worded, seed, 40) for seed in range(3, 9)]))
    best = [str(3 + int(utility[:3].argmax())), str(6 + int(utility[3:].argmax()))]
    asked = [(frame["seed"], frame["strength"]) for frame in state["frames"]][:4]
    assert asked == [(best[0], 0.0), (best[0], 0.5), (best[1], 0.0), (best[1], 0.5)]
    assert [painter.asked.count((worded, seed)) for seed in range(3, 9) if str(seed) != best[0]] == [1] * 5
    plain, mine = (rooms.gallery.get(frame["id"]).used for frame in state["frames"][:2])
    assert (plain.prompt, plain.worded, plain.words) == ("a cat", "a cat", ())
    assert (mine.prompt, mine.worded, mine.words, mine.method) == ("a cat", worded, added, "user")
    answer = rooms.choices.prefer("me", state["frames"][1]["id"], state["frames"][0]["id"])
    assert answer.prompt == "a cat"  # what was typed, of both


def test_for_me_moves_the_prompt_where_there_is_no_ppd(tmp_path, monkeypatch, painter):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", fakes.fake_tools(painter, ppd=lambda painter: None))
    fakes.answer_some(studio.store, number=60)
    state = for_me(Rooms(studio), seeds=[3], method="auto", strength=1.0)
    assert state["state"] == "done" and state["given"].endswith("” and takes the best of 3.")
    assert state["degrees"][20] == 12.0
    studio.close()


def test_for_me_moves_the_prompt_where_the_ppd_cannot_make_a_user_of_the_answers(tmp_path, monkeypatch, painter):
    def profiles_only(*given):
        raise PPDError("Cannot make an embedding here: the PPD knows people by profiles.")

    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", fakes.fake_tools(painter, user=profiles_only))
    fakes.answer_some(studio.store, number=60)
    rooms = Rooms(studio)
    state = for_me(rooms, seeds=[3], fallback=True)
    assert state["state"] == "done" and "denoiser" not in state["given"] and state["degrees"][20] == 12.0
    assert rooms.gallery.get(state["frames"][1]["id"]).used.method == "auto"
    assert state["strength"] == state["frames"][1]["strength"] == PROMPT_STRENGTH  # as `palate generate --for` does
    asked_for = for_me(rooms, seeds=[3])  # by name, under Moves
    assert asked_for["state"] == "failed" and "profiles" in asked_for["error"]
    studio.close()


def test_for_me_of_somebody_who_never_answered_is_plain(rooms):
    state = for_me(rooms, tastes=[{"source": "person:new", "weight": 1}], person="new")
    assert [frame["strength"] for frame in state["frames"]] == [0.0] and state["given"] == ""
    assert "compare some pictures first" in state["note"]


@pytest.mark.parametrize(
    ("body", "said"), [({"words": 9}, "9 words"), ({"best": 0}, "best of 0"), ({"best": "x"}, "best is 'x'")]
)
def test_too_many_words_and_the_best_of_none_are_refused(body, said):
    with pytest.raises(SteeringError, match=said):
        Wish.read({"prompt": "a cat"} | body)


def test_a_picture_kept_before_there_were_words_is_the_same_picture(rooms):
    first = paint(rooms, seeds=[3], tastes=[])["frames"][0]["id"]
    with rooms.gallery._index() as index:
        (text,) = index.execute("SELECT used FROM shots WHERE id = ?", (first,)).fetchone()
    assert "words" not in text
    assert paint(rooms, seeds=[3], tastes=[])["frames"][0]["id"] == first


def foreign(rooms, tmp_path, **changes):
    """A taste file that says what you like it to say."""
    taste = replace(rooms.studio.taste("me"), **changes)
    return rooms.studio.tools.save(taste, tmp_path / "foreign.safetensors").read_bytes()


def test_plain_and_steered_come_first_then_what_the_slider_shows(rooms, painter):
    state = paint(rooms, seeds=[3, 4])
    assert [(frame["seed"], frame["strength"]) for frame in state["frames"]] == [
        *[("3", 0.0), ("3", 1.0), ("4", 0.0), ("4", 1.0)],
        *[("3", 0.5), ("3", 1.5), ("3", 2.0)],
    ]
    assert (state["state"], state["asked"]) == ("done", True)
    assert (state["degrees"][0], state["degrees"][20], state["degrees"][40]) == (0.0, 12.0, 24.0)
    assert len(rooms.gallery.shots()) == 4
    assert len(rooms.gallery.shots(between=True)) == 7


def test_every_picture_says_what_it_was_made_with(rooms):
    state = paint(rooms, seeds=[3], negative="blur", strength=0.5, method="token_input", guidance=2)
    used = rooms.gallery.get(state["frames"][1]["id"]).used
    assert (used.prompt, used.negative, used.seed, used.strength) == ("a cat", "blur", 3, 0.5)
    assert (used.tastes, used.method, used.guidance, used.degrees) == ((("person:me", 1.0),), "token_input", 2.0, 3.0)
    plain = rooms.gallery.get(state["frames"][0]["id"]).used
    assert (plain.strength, plain.tastes, plain.method, plain.degrees) == (0.0, (), "", None)


def test_without_a_taste_the_model_paints_as_it_is(rooms, painter):
    state = paint(rooms, tastes=[])
    assert [frame["strength"] for frame in state["frames"]] == [0.0]
    assert painter.options.get("taste") is None


def test_a_stopped_wish_keeps_what_is_painted(rooms, painter):
    job = Job()
    original = painter.images

    def images(*given, **options):
        out = original(*given, **options)
        job.stop()
        return out

    painter.images = images
    state = paint(rooms, job)
    assert state["state"] == "stopped"
    assert len(rooms.gallery.shots()) == 1


def test_a_newer_wish_of_the_same_page_stops_the_one_before(rooms, painter):
    jobs, begun = Jobs(threading.Event()), threading.Event()

    def wait(job):
        begun.set()
        while not job.cancelled():
            begun.wait(0.01)

    first = jobs.start("page", wait)
    second = jobs.start("page", lambda job: None)
    assert first.wait(LONG)
    assert second.wait(LONG)
    assert first.cancelled()
    assert not second.cancelled()
    assert jobs.get(second.id) is second


def test_running_out_of_memory_says_what_to_try(rooms, painter):
    def images(*given, **options):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    painter.images = images
    state = paint(rooms)
    assert state["state"] == "failed"
    assert "ran out of memory at 64x64" in state["error"]
    assert "--offload" in state["error"]


def test_an_error_that_nobody_foresaw_is_said_and_the_model_stays_free(rooms, painter):
    original = painter.images

    def images(*given, **options):
        raise ZeroDivisionError("oh")

    painter.images = images
    assert "ZeroDivisionError: oh" in paint(rooms)["error"]
    painter.images = original
    assert paint(rooms)["state"] == "done"


def test_somebody_who_answered_nothing_is_told_so(rooms):
    state = paint(rooms, tastes=[{"source": "person:Nobody", "weight": 1}])
    assert "has not compared anything yet" in state["error"]


def test_a_newcomer_gets_pictures_and_is_told_that_they_are_plain(rooms):
    job = Job()
    wish = Wish.read({"prompt": "a cat", "seeds": [3], "tastes": [{"source": "person:Neva", "weight": 1}]})
    job.run(lambda job: rooms.easel.paint(wish, "Neva", job))
    state = job.state()
    assert (state["state"], state["error"]) == ("done", "") and "without your taste" in state["note"]
    assert [frame["strength"] for frame in state["frames"]] == [0.0]


def test_several_tastes_are_one_blend(rooms):
    tastes = rooms.blends.of([Part("person:me", 1.0), Part("person:Ada", -0.5)])
    me, ada = rooms.studio.taste("me"), rooms.studio.taste("Ada")
    assert len(tastes) == 1
    assert np.allclose(tastes[0].weights, me.weights - 0.5 * ada.weights, atol=1e-6)
    assert rooms.blends.of([Part("person:me", 1.0)]) == (me,)
    assert rooms.blends.of([Part("person:me", 0.0)]) == ()


def test_people_can_move_the_denoiser_instead_of_the_prompt(rooms, painter):
    ada = {"source": "person:Ada", "weight": -0.5}
    state = paint(rooms, seeds=[3], method="user", tastes=[ME, ada], strength=1.5)
    assert (state["state"], state["degrees"]) == ("done", [])
    assert [frame["strength"] for frame in state["frames"]] == [0.0, 1.5, 0.5, 1.0, 2.0]
    user = painter.options["user"]
    assert torch.equal(user.tokens, torch.full((2, 3), 4.0 - 0.5 * 3.0))
    assert painter.options["user_strength"] == 2.0
    used = rooms.gallery.shots(between=False)[0].used
    assert (used.method, used.tastes, used.strength) == ("user", (("person:me", 1.0), ("person:Ada", -0.5)), 1.5)


def test_the_denoiser_is_offered_only_where_a_ppd_fits(rooms):
    assert rooms.easel.facts().methods[-1] == "user"
    rooms.studio.tools = replace(rooms.studio.tools, ppd=lambda painter: None)
    assert "user" not in rooms.easel.facts().methods
    assert "found no PPD for this model" in paint(rooms, method="user")["error"]


def test_a_taste_file_cannot_move_the_denoiser_and_says_so(rooms):
    state = paint(rooms, method="user", tastes=[{"source": "file:ada.safetensors", "weight": 1}])
    assert "a taste file holds no answers" in state["error"]


def test_a_model_with_two_encoders_gets_a_taste_for_each(rooms):
    class Second(fakes.FakeEncoder):
        identity, name = "5ec0" * 8, "second"

    second = Second()
    rooms.studio.tools = replace(rooms.studio.tools, more_encoders=lambda: [second])
    found = rooms.blends.of([Part("person:me", 1.0)])
    assert [taste.encoder for taste in found] == [rooms.studio.encoder().identity, second.identity]
    assert rooms.blends.of([Part("person:me", 1.0)])[1] is found[1]


def test_a_taste_file_is_on_the_shelf_after_a_restart(rooms, tmp_path):
    entry = rooms.files.add("My taste (2).safetensors", foreign(rooms, tmp_path, person="Zoe"))
    assert entry.said.person == "Zoe"
    again = Rooms(rooms.studio)
    assert [one.name for one in again.files.entries()] == [entry.name]
    assert again.blends.of([Part(f"file:{entry.name}", 1.0)])[0].person == "Zoe"


def test_the_same_file_is_one_entry_and_another_of_its_name_gets_a_number(rooms, tmp_path):
    one, two = foreign(rooms, tmp_path, person="Zoe"), foreign(rooms, tmp_path, person="Yan")
    names = [rooms.files.add("a.safetensors", data).name for data in (one, two, one)]
    assert names == ["a.safetensors", "a-2.safetensors", "a.safetensors"]


@pytest.mark.parametrize("name", ["../../x.safetensors", "..\\x", "", "a\0b.safetensors", "😀" * 300])
def test_any_file_name_stays_on_the_shelf(rooms, tmp_path, name):
    entry = rooms.files.add(name, foreign(rooms, tmp_path))
    assert rooms.files.path(entry.name).parent == rooms.studio.tastes_folder


def test_saving_your_taste_overwrites_no_friends_of_the_same_name(rooms, tmp_path):
    friends = foreign(rooms, tmp_path, answers=99)
    entry = rooms.files.add("me.safetensors", friends)
    rooms.files.save("me")
    assert rooms.files.path(entry.name).read_bytes() == friends
    assert rooms.files.add("me.safetensors", friends).name == entry.name
    assert len(rooms.files.entries()) == 2


@pytest.mark.parametrize("data", [b"", b"\x89PNG junk that is longer", b"PK\x03\x04" + b"0" * 50])
def test_a_file_that_is_no_taste_is_named_and_not_kept(rooms, data):
    with pytest.raises(FileFormatError, match=r"'cat\.png'"):
        rooms.files.add("cat.png", data)
    assert rooms.files.entries() == []


def test_a_broken_file_on_the_shelf_is_listed_with_its_trouble(rooms):
    (rooms.studio.tastes_folder / "bad.safetensors").write_bytes(b"junk")
    (entry,) = rooms.files.entries()
    assert entry.said is None
    assert "bad.safetensors" in entry.trouble


def test_a_removed_taste_can_be_brought_back(rooms):
    entry = rooms.files.save("me")
    rooms.files.remove(entry.name)
    assert rooms.files.entries() == []
    assert rooms.files.restore(entry.name) == entry
    with pytest.raises(FileFormatError, match="not on the shelf"):
        rooms.files.path("../store.sqlite")


def test_a_taste_may_be_saved_without_its_name(rooms):
    assert rooms.files.save("me", named=False).said.person == "somebody"
    assert rooms.files.save("me").said.person == "me"


def test_a_taste_of_another_encoder_is_named_with_what_would_fit(rooms, tmp_path):
    mine = rooms.files.save("me").name
    data = foreign(rooms, tmp_path, encoder="0ther" * 6, encoder_name="the other")
    name = rooms.files.add("theirs.safetensors", data).name
    with pytest.raises(EncoderMismatchError, match=f"'theirs.*the other.*steered with fake.*{mine}.*--encoder"):
        rooms.blends.of([Part(f"file:{name}", 1.0)])


def test_a_taste_for_the_other_tower_of_sdxl_says_what_to_start_with(rooms, tmp_path):
    changes = {"encoder": "0ther" * 6, "encoder_name": "open_clip ViT-bigG-14/laion2b_s39b_b160k"}
    name = rooms.files.add("theirs.safetensors", foreign(rooms, tmp_path, **changes)).name
    with pytest.raises(
        EncoderMismatchError,
        match="SDXL takes both: --encoder PATH/TO/fake --encoder open_clip:ViT-bigG-14/laion2b_s39b_b160k",
    ):
        rooms.blends.of([Part(f"file:{name}", 1.0)])


def test_without_an_encoder_taste_files_still_steer_and_people_cannot(rooms, tmp_path):
    name = rooms.files.add("theirs.safetensors", foreign(rooms, tmp_path, encoder="0ther" * 6)).name

    def none():
        raise EncoderError("Cannot learn: there is no encoder.")

    rooms.studio.encoder = none
    (taste,) = rooms.blends.of([Part(f"file:{name}", 1.0)])
    assert taste.encoder == "0ther" * 6
    assert rooms.blends.fits(taste.encoder) == ""
    with pytest.raises(EncoderError, match="there is no encoder"):
        rooms.blends.of([Part(f"file:{name}", 1.0), Part("person:me", 1.0)])


def test_too_many_tastes_are_refused(rooms):
    with pytest.raises(SteeringError, match="Cannot combine 13 tastes"):
        rooms.blends.of([Part("person:me", 1.0)] * 13)


def test_preferring_is_one_answer_however_often_it_is_clicked(rooms):
    plain, yours, *_ = [frame["id"] for frame in paint(rooms, seeds=[5])["frames"]]
    before = len(rooms.studio.store.comparisons("me"))
    first = rooms.choices.prefer("me", yours, plain)
    assert rooms.choices.prefer("me", yours, plain).id == first.id
    answer = rooms.studio.store.comparisons("me")[-1]
    assert len(rooms.studio.store.comparisons("me")) == before + 1
    assert (answer.source, answer.prompt, answer.left_seed, answer.right_seed) == ("panel:generate", "a cat", 5, 5)
    chosen = np.asarray(rooms.studio.store.image(answer.chosen)).mean()
    assert chosen > np.asarray(rooms.studio.store.image(answer.rejected)).mean()


def test_preferring_the_other_one_changes_the_answer(rooms):
    plain, yours, *_ = [frame["id"] for frame in paint(rooms)["frames"]]
    before = len(rooms.studio.store.comparisons("me"))
    first, second = rooms.choices.prefer("me", yours, plain), rooms.choices.prefer("me", plain, yours)
    assert (first.id, first.chosen) == (second.id, second.rejected)
    assert len(rooms.studio.store.comparisons("me")) == before + 1


def test_an_answer_is_taken_back_and_no_other_one(rooms):
    plain, yours, *_ = [frame["id"] for frame in paint(rooms)["frames"]]
    others = rooms.studio.store.comparisons("me")
    answer = rooms.choices.prefer("me", yours, plain)
    assert not rooms.choices.take_back("Ada", answer.id)
    assert not rooms.choices.take_back("me", others[0].id)
    assert rooms.choices.take_back("me", answer.id)
    assert rooms.studio.store.comparisons("me") == others


def test_pictures_of_two_seeds_are_no_counterparts(rooms):
    frames = paint(rooms, seeds=[1, 2])["frames"]
    with pytest.raises(ComparisonError, match="different prompts or seeds"):
        rooms.choices.prefer("me", frames[0]["id"], frames[3]["id"])


def test_an_embedding_is_trained_saved_and_told_of(rooms):
    job = Job()
    job.run(lambda job: rooms.embeddings.make("me", "my-taste", job))
    assert job.state()["said"].startswith("Saved as my-taste.safetensors.")
    assert [path.name for path in rooms.embeddings.files()] == ["my-taste.safetensors"]


def test_an_embedding_is_trained_on_the_persons_own_prompts_first(rooms, monkeypatch):
    seen = []

    def embed(painter, tastes, prompts, on_step, cancelled):
        seen.extend(prompts)
        return SimpleNamespace(vectors={}, effect={})

    answer = rooms.studio.store.comparisons("me")[0]
    rooms.studio.store.add(replace(answer, id=None, prompt="my own words"))
    monkeypatch.setattr(rooms.studio, "tools", replace(rooms.studio.tools, embed=embed))
    rooms.embeddings.make("me", "my-taste", Job())
    assert seen[0] == "my own words"
    assert set(rooms.studio.example_prompts()) <= set(seen)


def test_an_embedding_may_leave_out_whose_it_is(rooms, monkeypatch):
    made = PortableEmbedding({}, person="me")
    saved = []
    monkeypatch.setitem(rooms.studio.tools.__dict__, "embed", lambda *given: made)
    monkeypatch.setitem(rooms.studio.tools.__dict__, "save_embedding", lambda one, path: saved.append(one) or path)
    rooms.embeddings.make("me", "secret", Job(), named=False)
    rooms.embeddings.make("me", "open", Job())
    assert [one.person for one in saved] == ["", "me"]


def test_a_removed_embedding_comes_back_once_and_over_no_other(rooms):
    file = rooms.embeddings.folder / "word.safetensors"
    file.write_bytes(b"first")
    rooms.embeddings.remove(file.name)
    assert rooms.embeddings.files() == []
    rooms.embeddings.restore(file.name)
    assert file.read_bytes() == b"first"
    rooms.embeddings.remove(file.name)
    file.write_bytes(b"second")
    rooms.embeddings.restore(file.name)
    assert file.read_bytes() == b"second"
    for name in ("none.safetensors", "../../x.safetensors"):
        with pytest.raises(FileFormatError, match="no such embedding"):
            rooms.embeddings.remove(name)


def test_an_embedding_that_may_not_be_saved_is_not_trained(rooms):
    (rooms.embeddings.folder / "my-taste.safetensors").write_bytes(b"somebody else's")
    job = Job()
    job.run(lambda job: rooms.embeddings.make("me", "my-taste", job))
    assert "Choose another one" in job.state()["error"]
    assert job.state()["text"] == ""


def test_an_embedding_that_is_stopped_leaves_nothing(rooms):
    job = Job()
    job.stop()
    job.run(lambda job: rooms.embeddings.make("me", "my-taste", job))
    assert job.state()["state"] == "stopped"
    assert rooms.embeddings.files() == []


def test_a_name_that_no_tool_could_load_is_refused(rooms):
    job = Job()
    job.run(lambda job: rooms.embeddings.make("me", "star", job))
    assert "Choose another name" in job.state()["error"]
