"""IP-Adapters in Load PPD, as people have them: `.safetensors` and `.bin`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import collect, node, playground, probe
from palate.adapters.files import load_user
from palate.adapters.ppd.layers import standard_layers
from safetensors.torch import save_file

SEEN = 96  # numbers of a picture's vector of the playground


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def adapters(host: Host) -> Path:
    """One for SD1.5 that sees with the playground's CLIP, as both kinds of file."""
    folder = host.folder / "models" / "ipadapter"
    folder.mkdir(exist_ok=True)
    layers: dict[str, torch.Tensor] = {}
    for place, layer in enumerate(standard_layers("sd15")):
        for side in "kv":
            layers[f"{2 * place + 1}.to_{side}_ip.weight"] = draw(layer.inner, 768, seed=place).half()
    images = {"proj.weight": draw(4 * 768, SEEN), "proj.bias": draw(4 * 768, seed=1)}
    images |= {"norm.weight": torch.ones(768), "norm.bias": torch.zeros(768)}
    parts = {"image_proj": images, "ip_adapter": layers}
    torch.save(parts, folder / "picture.bin")
    save_file({f"{part}.{name}": t for part, all_ in parts.items() for name, t in all_.items()},
              folder / "picture.safetensors")  # fmt: skip
    return folder


def test_a_bin_makes_the_same_people_as_the_safetensors(host: Host, adapters: Path) -> None:
    info = host.request("/object_info/PalateLoadPPD")["PalateLoadPPD"]["input"]["required"]["file"]
    options: Any = info[1].get("options") or info[0]
    assert {"ipadapter/picture.bin", "ipadapter/picture.safetensors"} <= set(options)
    for pair in host.run(collect(playground(), "ivy", "a red star", batch=8))["collect"]["palate_pairs"]:
        host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    graph = playground()
    for ending in ("bin", "safetensors"):
        graph[f"ppd {ending}"] = node("PalateLoadPPD", file=f"ipadapter/picture.{ending}", encoder=["load", 3])
        graph[f"user {ending}"] = node("PalateEncodeUser", person="ivy", encoder=["load", 3], ppd=[f"ppd {ending}", 0])
        graph[f"save {ending}"] = node("PalateSaveUser", user=[f"user {ending}", 0], name=f"ivy-{ending}")
    graph["about"] = probe(["ppd bin", 1], "about bin")
    host.run(graph)
    one, other = (load_user(host.home / "users" / f"ivy-{ending}.safetensors") for ending in ("bin", "safetensors"))
    assert torch.equal(one.tokens, other.tokens) and one.negative is not None and one.ppd == other.ppd
    assert one.pairs == 4 and bool(one.tokens.any()) and not torch.equal(one.tokens, one.negative)
    assert "for sd15" in host.probe("about bin") and "Not trained on preferences" in host.probe("about bin")


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["PALATE_HARM"],)


@pytest.mark.parametrize("how", ["hostile", "flux", "cut off"])
def test_a_bin_that_is_none_is_refused_by_name(host: Host, adapters: Path, how: str, monkeypatch: Any) -> None:
    file = adapters / f"{how}.bin"
    ran = host.folder / "harm"
    monkeypatch.setenv("PALATE_HARM", str(ran))
    if how == "hostile":
        torch.save({"image_proj": Harm(), "ip_adapter": {}}, file)
    elif how == "flux":
        torch.save({"image_proj": {"norm.weight": torch.zeros(4)}, "double_blocks": {}}, file)
    else:
        file.write_bytes((adapters / "picture.bin").read_bytes()[:100_000])
    said = {
        "hostile": "'hostile.bin': .*Nothing in it was run",
        "flux": r"'flux' as an IP-Adapter: it holds double_blocks, image_proj.*Flux and SD3 are of another kind",
        "cut off": "'cut off.bin'.*cut off or damaged",
    }[how]
    graph = {"ppd": node("PalateLoadPPD", file=f"ipadapter/{file.name}"), "about": probe(["ppd", 1], "about none")}
    with pytest.raises(NodeError, match=f"PalateLoadPPD: .*{said}"):
        host.run(graph)
    assert not ran.exists()
