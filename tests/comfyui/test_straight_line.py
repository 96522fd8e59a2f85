"""Click, learn, steer and see, in a real ComfyUI with the playground."""

from __future__ import annotations

import hashlib
import io
import urllib.error

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import adapt, collect, fit, node, playground, probe, sample
from PIL import Image

TEXT = "a large (red:1.3) star on the left, " + "dotted mint background, " * 20  # two chunks of 77 tokens


@pytest.fixture(scope="session")
def clicked(host: Host) -> list[dict]:
    """Two pairs of "ann", the first image of each preferred."""
    pairs = host.run(collect(playground(), "ann", "a red star"))["collect"]["palate_pairs"]
    for pair in pairs:
        host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left", "seconds": 1.5})
    return pairs


def test_all_nodes_are_there_with_tooltips(host: Host) -> None:
    nodes = {name: info for name, info in host.request("/object_info").items() if name.startswith("Palate")}
    ours = {name for name in nodes if "Probe" not in name}
    assert ours == {
        "PalateLoadPlayground",
        "PalateLoadEncoder",
        "PalateCollectPairs",
        "PalateChoosePair",
        "PalateFitTaste",
        "PalateBlendTastes",
        "PalateAdaptConditioning",
        "PalateAdaptClip",
        "PalateAddLikedWords",
        "PalateRankImages",
        "PalateSaveTaste",
        "PalateLoadTaste",
        "PalateSaveEmbedding",
        "PalateLoadPPD",
        "PalateEncodeUser",
        "PalateBlendUsers",
        "PalateBatchUsers",
        "PalateApplyUser",
        "PalateSaveUser",
        "PalateLoadUser",
        "PalateTrainPreferenceLora",
    }
    for name in ours:
        assert nodes[name]["description"] and nodes[name]["display_name"]
        inputs = nodes[name]["input"].get("required", {}) | nodes[name]["input"].get("optional", {})
        assert all(len(spec) > 1 and spec[1].get("tooltip") for spec in inputs.values()), name
        assert all(nodes[name]["output_tooltips"] or [True]), name


def test_what_a_newcomer_needs_not_know_is_advanced(host: Host) -> None:
    moved = {"steps", "objective", "limit"}
    wanted = {
        "PalateFitTaste": {"prior_variance", "half_life"},
        "PalateAdaptConditioning": moved,
        "PalateAdaptClip": moved,
    }
    info = host.request("/object_info")
    for name, advanced in wanted.items():
        inputs = info[name]["input"]["required"] | info[name]["input"]["optional"]
        assert {key for key, spec in inputs.items() if spec[1].get("advanced")} == advanced


def test_every_node_has_its_help_page_and_its_english_texts(host: Host) -> None:
    texts = host.request("/i18n")["en"]["nodeDefs"]
    for name, info in host.request("/object_info").items():
        if name.startswith("Palate") and "Probe" not in name:
            assert host.request(f"/extensions/palate/docs/{name}.md").startswith(b"# ")
            inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
            assert texts[name]["display_name"] == info["display_name"]
            assert texts[name]["description"] == info["description"]
            assert {key: value["tooltip"] for key, value in texts[name].get("inputs", {}).items()} == {
                key: spec[1]["tooltip"] for key, spec in inputs.items()
            }


def test_pairs_are_published_with_pictures(host: Host, clicked: list[dict]) -> None:
    assert len(clicked) == 2
    picture = Image.open(io.BytesIO(host.request(f"/palate/image/{clicked[0]['left']}")))
    assert picture.size == (128, 128)
    assert len({pair[side] for pair in clicked for side in ("left", "right")}) == 4


def test_two_inputs_make_pairs_side_by_side_with_the_prompt(host: Host) -> None:
    graph = playground()
    graph["text"] = node("CLIPTextEncode", text="a star", clip=["load", 1])
    left, right = (sample(graph, name, ["text", 0], seed, batch=2) for name, seed in (("left", 1), ("right", 2)))
    graph["collect"] = node(
        "PalateCollectPairs", images=left, images_b=right, prompt="a star", person="eve", mode="record"
    )
    for name, value in (("left", left), ("right", right), ("both", ["collect", 0])):
        graph[f"probe {name}"] = probe(value, name)
    pairs = host.run(graph)["collect"]["palate_pairs"]
    assert [pair["prompt"] for pair in pairs] == ["a star"] * 2
    left_images, right_images, both = (host.probe(name) for name in ("left", "right", "both"))
    assert torch.equal(both[0::2], left_images) and torch.equal(both[1::2], right_images)
    graph["right sample"]["inputs"]["latent_image"] = ["one", 0]
    graph["one"] = node("EmptyLatentImage", width=128, height=128, batch_size=1)
    with pytest.raises(NodeError, match="2 images on the left and 1 on the right"):
        host.run(graph)


def test_a_repeated_click_counts_once_and_undo_takes_it_back(host: Host) -> None:
    (pair,) = host.run(collect(playground(), "bea", "a blue ring", batch=3))["collect"]["palate_pairs"]
    for seconds in ("now", 10**400, -1, [1]):
        with pytest.raises(urllib.error.HTTPError, match="400"):
            host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left", "seconds": seconds})
    first = host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    again = host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    assert (first["answers"], again["answers"]) == (1, 1)
    assert first["pairs"] == [pair | {"outcome": "left"}]
    undone = host.request("/palate/undo", {"person": "bea"})
    assert undone["answers"] == 0 and undone["undone"]["outcome"] == "left"
    assert host.request("/palate/pairs", {"person": "bea"})["pairs"] == [pair]
    assert host.request("/palate/undo", {"person": "bea"})["undone"] is None


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("answer", {"offer": "no-such-pair", "outcome": "left"}, "no offer"),
        ("answer", {"offer": "x", "outcome": "sideways"}, "expected one of left"),
        ("answer", {"outcome": "left"}, "offer is missing"),
        ("answer", ["left"], "must be an object"),
        ("pairs", {"person": "ann", "offers": [1]}, "list"),
        ("undo", {"person": "a" * 70_000}, "longer than"),
    ],
)
def test_the_routes_refuse_what_makes_no_sense(host: Host, path: str, body: object, said: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        host.request(f"/palate/{path}", body)
    assert refused.value.code == 400
    assert said in refused.value.read().decode()


def test_the_routes_are_closed_to_other_sites_and_paths(host: Host) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Content-Type": "text/plain"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            host.request("/palate/undo", {"person": "ann"}, headers)
        assert refused.value.code in (400, 403)
    for image in ("0" * 64, "..%2f..%2fstore.sqlite", "x"):
        with pytest.raises(urllib.error.HTTPError) as missing:
            host.request(f"/palate/image/{image}")
        assert missing.value.code == 404


def test_the_playground_computes_what_diffusers_computes(host: Host) -> None:
    graph = playground()
    graph["text"] = node("CLIPTextEncode", text="a red star", clip=["load", 1])
    images = sample(graph, "images", ["text", 0], seed=5)
    for name, value in (("model", ["load", 0]), ("text", ["text", 0]), ("images", images)):
        graph[f"probe {name}"] = probe(value, f"host {name}")
    graph["encoded"] = node("VAEEncode", pixels=images, vae=["load", 2])
    graph["again"] = node("VAEDecode", samples=["encoded", 0], vae=["load", 2])
    graph["probe again"] = probe(["again", 0], "host again")
    host.run(graph)

    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = host.folder / "custom_nodes" / "palate" / "adapters" / "playground" / "models"
    seen = host.probe("host model")
    with torch.no_grad():
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        torch.testing.assert_close(
            unet(seen["x"], seen["timesteps"], seen["context"]).sample, seen["out"], atol=1e-4, rtol=1e-3
        )
        noise = 1 - EulerDiscreteScheduler.from_pretrained(folder / "scheduler").alphas_cumprod
        torch.testing.assert_close(torch.sqrt(noise / (1 - noise)), seen["sigmas"], atol=1e-4, rtol=1e-4)
        ids = CLIPTokenizer.from_pretrained(folder / "tokenizer")(
            "a red star", padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        states = CLIPTextModel.from_pretrained(folder / "text_encoder")(ids).last_hidden_state
        torch.testing.assert_close(states.float(), host.probe("host text")[0][0], atol=1e-2, rtol=1e-2)
        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
        pixels = host.probe("host images").movedim(-1, 1) * 2 - 1
        again = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5
        torch.testing.assert_close(again.movedim(1, -1), host.probe("host again"), atol=1e-3, rtol=1e-3)


def test_the_whole_line(host: Host, clicked: list[dict]) -> None:
    graph = playground()
    taste = fit(graph, "ann", ["load", 3])
    graph["plain"] = node("CLIPTextEncode", text=TEXT, clip=["load", 1])
    graph["steered"] = adapt(TEXT, taste, ["load", 3])
    graph["off"] = adapt(TEXT, taste, ["load", 3], strength=0.0)
    for name in ("plain", "steered", "off"):
        graph[f"probe {name}"] = probe([name, 0], name)
    with_taste = sample(graph, "with taste", ["steered", 0], seed=7, batch=3)
    graph["rank"] = node("PalateRankImages", images=with_taste, taste=taste, encoder=["load", 3], keep=2)
    graph["show"] = node("PreviewImage", images=["rank", 0])
    graph["probe scores"] = probe(["rank", 1], "scores")
    graph["words"] = node("PalateAddLikedWords", text=TEXT, taste=taste, encoder=["load", 3], words=0, avoid=2)
    graph["more words"] = node("PalateAddLikedWords", text="a star", taste=taste, encoder=["load", 3], words=8)
    graph["worded"] = node("CLIPTextEncode", text=["words", 0], clip=["load", 1])
    for name, number in (("worded", 0), ("words", 1), ("more words", 0)):
        graph[f"probe {name}"] = probe([name, number], name)
    graph["save"] = node("PalateSaveTaste", taste=taste, name="../Ann's taste")
    graph["probe clip"] = probe(["load", 1], "clip after")
    outputs = host.run(graph)

    plain, steered, off = (host.probe(name) for name in ("plain", "steered", "off"))
    assert steered[0][0].shape == plain[0][0].shape and plain[0][0].shape[1:] == (154, 96)
    assert torch.equal(off[0][0], plain[0][0]) and torch.equal(off[0][1]["pooled_output"], plain[0][1]["pooled_output"])
    assert torch.equal(host.probe("worded")[0][0], plain[0][0]) and isinstance(host.probe("words"), str)
    assert host.probe("more words").startswith("a star")
    moved = (steered[0][0] - plain[0][0]).norm() / plain[0][0].norm()
    assert 1e-4 < moved < 2
    assert len(outputs["show"]["images"]) == 2
    (saved,) = [path.name for path in (host.home / "tastes").iterdir() if "ann" in path.name.lower()]
    assert saved.endswith(".safetensors") and "/" not in saved

    # The host's own weights are what the file says, bit for bit.
    again = playground() | {"probe clip": probe(["load", 1], "clip before")}
    host.request("/free", {"unload_models": True, "free_memory": True})
    host.run(again)
    before, after = host.probe("clip before"), host.probe("clip after")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_a_saved_taste_ranks_the_same(host: Host, clicked: list[dict]) -> None:
    graph = playground()
    taste = fit(graph, "ann", ["load", 3])
    graph["save"] = node("PalateSaveTaste", taste=taste, name="round-trip")
    images = sample(graph, "batch", ["negative", 0], seed=3, batch=3)
    graph["rank"] = node("PalateRankImages", images=images, taste=taste, encoder=["load", 3], keep=0)
    graph["probe"] = probe(["rank", 0], "ranked by fit")
    host.run(graph)
    graph["loaded"] = node("PalateLoadTaste", file="round-trip.safetensors", encoder=["load", 3])
    graph["rank"]["inputs"]["taste"] = ["loaded", 0]
    graph["probe"] = probe(["rank", 0], "ranked by file")
    del graph["save"]
    host.run(graph)
    assert torch.equal(host.probe("ranked by fit"), host.probe("ranked by file"))


def test_a_blended_taste_is_a_taste(host: Host, clicked: list[dict]) -> None:
    graph = playground()
    taste = fit(graph, "ann", ["load", 3])
    graph["blend"] = node("PalateBlendTastes", taste_1=taste, weight_1=1.0, taste_2=taste, weight_2=0.0)
    graph["against"] = node(
        "PalateBlendTastes",
        taste_1=["blend", 0],
        weight_1=0.5,
        taste_2=taste,
        weight_2=0.0,
        taste_3=taste,
        weight_3=-1.5,
    )
    graph["save"] = node("PalateSaveTaste", taste=["blend", 0], name="blend")
    images = sample(graph, "batch", ["negative", 0], seed=3, batch=3)
    for name, link in (("fit", taste), ("blend", ["blend", 0]), ("against", ["against", 0])):
        graph[f"rank {name}"] = node("PalateRankImages", images=images, taste=link, encoder=["load", 3], keep=0)
        graph[f"probe {name}"] = probe([f"rank {name}", 0], f"ranked by {name}")
    graph["text"] = adapt("a star", ["blend", 0], ["load", 3])
    graph["probe text"] = probe(["text", 0], "by blend")
    host.run(graph)
    ranked = {name: host.probe(f"ranked by {name}") for name in ("fit", "blend", "against")}
    assert torch.equal(ranked["fit"], ranked["blend"]) and torch.equal(ranked["fit"], ranked["against"].flip(0))
    assert torch.isfinite(host.probe("by blend")[0][0]).all()


def test_a_lora_in_the_clip_is_respected(host: Host, clicked: list[dict]) -> None:
    graph = playground()
    taste = fit(graph, "ann", ["load", 3])
    graph["lora"] = node("PalateProbeLora", clip=["load", 1])
    for name, clip, strength in (("base", "load", 1.0), ("lora", "lora", 1.0), ("lora off", "lora", 0.0)):
        link = [clip, 1 if clip == "load" else 0]
        graph[f"{name} text"] = adapt("a red star", taste, ["load", 3], strength, clip=link)
        graph[f"{name} probe"] = probe([f"{name} text", 0], f"with {name}")
    graph["plain"] = node("CLIPTextEncode", text="a red star", clip=["lora", 0])
    graph["plain probe"] = probe(["plain", 0], "with lora plain")
    host.run(graph)
    base, lora, off, plain = (host.probe(f"with {n}")[0][0] for n in ("base", "lora", "lora off", "lora plain"))
    assert torch.equal(off, plain)
    assert (lora - plain).norm() < (base - plain).norm()  # it started from the patched weights


def test_a_click_is_what_makes_the_next_run_learn_again(host: Host) -> None:
    graph = collect(playground(), "cleo", "a green ring", batch=4)
    first, second = host.run(graph)["collect"]["palate_pairs"]
    host.request("/palate/answer", {"offer": first["offer"], "outcome": "right"})
    taste = fit(graph, "cleo", ["load", 3])
    graph["save"] = node("PalateSaveTaste", taste=taste, name="cleo")
    graph["collect"]["inputs"]["prompt"] = "something new"  # a pair more, which is not an answer
    host.run(graph)
    file = host.home / "tastes" / "cleo.safetensors"
    digest, written = hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns
    host.run(graph)
    assert file.stat().st_mtime_ns == written
    host.request("/palate/answer", {"offer": second["offer"], "outcome": "left"})
    host.run(graph)
    assert hashlib.sha256(file.read_bytes()).hexdigest() != digest


def test_without_answers_the_fit_stops_or_waits(host: Host) -> None:
    graph = playground()
    taste = fit(graph, "nobody", ["load", 3])
    graph["save"] = node("PalateSaveTaste", taste=taste, name="nobody")
    with pytest.raises(NodeError, match="PalateFitTaste: Cannot"):
        host.run(graph)
    graph["fit"]["inputs"]["without_answers"] = "skip what follows"
    assert "save" not in host.run(graph)
    assert not (host.home / "tastes" / "nobody.safetensors").exists()


@pytest.mark.parametrize(
    ("batch", "person", "said"),
    [
        (1, "ann", "found 1 image"),
        (2, " ", "person is blank"),
        (2, "a\nb", "can't be shown"),
        (2, "a" * 5000, "5000 characters long"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(host: Host, batch: int, person: str, said: str) -> None:
    with pytest.raises(NodeError, match=said):
        host.run(collect(playground(), person, "a star", batch=batch))


def test_the_same_picture_twice_is_refused(host: Host) -> None:
    graph = {"grey": node("EmptyImage", width=64, height=64, batch_size=2, color=0)}
    graph["collect"] = node("PalateCollectPairs", images=["grey", 0], person="ann", mode="record")
    with pytest.raises(NodeError, match="the same picture"):
        host.run(graph)


def test_broken_files_and_paths_are_refused(host: Host) -> None:
    (host.home / "tastes").mkdir(exist_ok=True)
    for file in (host.home / "tastes" / "broken.safetensors", host.folder / "models" / "clip_vision" / "broken.pt"):
        file.write_bytes(b"junk" * 100)
    for kind, file, said in (
        ("PalateLoadTaste", "broken.safetensors", "Cannot read 'broken"),
        ("PalateLoadTaste", "../broken.safetensors", "value_not_in_list"),
        ("PalateLoadEncoder", "clip_vision/broken.pt", "Cannot read 'broken"),
        ("PalateLoadEncoder", "clip_vision/../../broken.pt", "value_not_in_list"),
    ):
        with pytest.raises(NodeError, match=said):
            host.run({"load": node(kind, file=file), "probe": probe(["load", 0], "broken")})
