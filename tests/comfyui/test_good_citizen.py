"""What the pack takes of its host: modules and memory."""

from __future__ import annotations

from comfy_host import Host
from graphs import collect, fit, node, playground


def modules_and_models(host: Host, graph: dict, after: list, name: str) -> tuple[set[str], list[str]]:
    graph["models"] = node("PalateProbeModels", after=after, name=name)
    host.run(graph)
    found = host.probe(name)
    return set(found["modules"]), found["loaded"]


def test_nothing_heavy_is_imported_and_the_encoder_is_the_hosts_to_unload(host: Host) -> None:
    graph = collect(playground(), "citizen", "a red star", batch=2)
    (pair,) = host.run(graph)["collect"]["palate_pairs"]
    host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    taste = fit(graph, "citizen", ["load", 3])
    graph["rank"] = node("PalateRankImages", images=["shown", 0], taste=taste, encoder=["load", 3], keep=0)
    modules, loaded = modules_and_models(host, graph, ["rank", 0], "citizen models")
    assert "transformers" in modules  # the host's own: the list is one of modules
    assert not modules & {"diffusers", "gradio", "open_clip"}
    assert "EncoderTowers" in loaded

    grey = {"grey": node("EmptyImage", width=64, height=64, batch_size=1, color=0)}
    host.request("/free", {"unload_models": True})
    for _ in range(20):  # the queue looks at it between two runs
        _, loaded = modules_and_models(host, grey, ["grey", 0], "citizen models")
        if "EncoderTowers" not in loaded:
            break
    assert "EncoderTowers" not in loaded
    graph["rank"]["inputs"]["keep"] = 1  # and it comes back when it is used
    assert "EncoderTowers" in modules_and_models(host, graph, ["rank", 0], "citizen models")[1]
