"""A real ComfyUI for the tests, started once, on the CPU, with nothing but this pack and a probe in custom_nodes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 240  # seconds; ComfyUI imports for ten to forty
RUN_LIMIT = 240

# Saves whatever it is given, so that a test can compare bits; and says what a CLIP's weights are.
PROBE = """
import contextlib
import os
import sys
from pathlib import Path
import torch

class Anything(str):
    def __ne__(self, other):
        return False

class PalateProbe:
    INPUT_TYPES = classmethod(lambda s: {"required": {"value": (Anything("*"),), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    @classmethod
    def VALIDATE_INPUTS(s, input_types):
        return True

    @classmethod
    def IS_CHANGED(s, **_):
        return float("nan")

    def save(self, value, name):
        if hasattr(value, "get_model_object"):  # a MODEL: what it makes of fixed inputs
            draw = torch.Generator().manual_seed(0)
            model = value.get_model_object("diffusion_model").float()
            inputs = torch.randn(2, 4, 16, 16, generator=draw), torch.tensor([20.0, 900.0])
            context = torch.randn(2, 77, 96, generator=draw)
            sigmas = value.get_model_object("model_sampling").sigmas
            value = {"sigmas": sigmas, "x": inputs[0], "timesteps": inputs[1], "context": context}
            value["out"] = model(*inputs, context=context)
        elif hasattr(value, "cond_stage_model"):
            value = {k: v.clone() for k, v in value.cond_stage_model.state_dict().items() if "text_projection" not in k}
        elif isinstance(value, list) and value and isinstance(value[0], list):
            value = [[cond, {k: v for k, v in rest.items() if torch.is_tensor(v)}] for cond, rest in value]
        torch.save(value, Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")
        return ()

class PalateProbeLora:
    '''A change of the text encoder's weights, patched in as a LoRA is.'''
    INPUT_TYPES = classmethod(lambda s: {"required": {"clip": ("CLIP",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "patch", "test"

    def patch(self, clip):
        clip = clip.clone()
        key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        weight = clip.cond_stage_model.state_dict()[key]
        generator = torch.Generator().manual_seed(1)
        clip.add_patches({key: (0.3 * torch.randn(weight.shape, generator=generator),)}, 1.0)
        return (clip,)

class PalateProbeTowers:
    '''What the pack's own copies of a CLIP's text encoders make of a text, beside the host.'''
    INPUT_TYPES = classmethod(
        lambda s: {"required": {"clip": ("CLIP",), "text": ("STRING", {}), "name": ("STRING", {})}}
    )
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    def save(self, clip, text, name):
        pack = next(module for key, module in sys.modules.items() if key.endswith("palate.nodes.host_text"))
        found = {}
        for tower_name, tower in pack.text_towers(clip).items():
            ids = tower.tokenize(text)
            states = tower.model(ids)
            pooled = states.pooler_output
            found[tower_name] = {
                "tokens": states.hidden_states[-1 - tower.clip_skip] if tower.clip_skip else states.last_hidden_state,
                "pooled": pooled if tower.projection is None else pooled @ tower.projection.T,
                "normed": torch.tensor(tower.norm_skipped),
                "can move": torch.tensor(not any(weight.is_inference() for weight in tower.model.parameters())),
            }
        torch.save(found, Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")
        return ()

class PalateProbeKept:
    '''How many steered texts are kept, once `after` is there.'''
    INPUT_TYPES = classmethod(lambda s: {"required": {"after": (Anything("*"),), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    @classmethod
    def VALIDATE_INPUTS(s, input_types):
        return True

    def save(self, after, name):
        pack = next(module for key, module in sys.modules.items() if key.endswith("palate.nodes.steered_clip"))
        torch.save(len(pack.KEPT), Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")
        return ()

class PalateProbeMemory:
    '''Has the pack believe that so much memory is free; 0 is the truth again.'''
    INPUT_TYPES = classmethod(lambda s: {"required": {"gigabytes": ("FLOAT", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "pretend", True, "test"
    truth = None

    def pretend(self, gigabytes):
        room = next(module for key, module in sys.modules.items() if key.endswith("palate.nodes.room"))
        PalateProbeMemory.truth = PalateProbeMemory.truth or room.free_memory
        room.free_memory = (lambda device: gigabytes * 1e9) if gigabytes else PalateProbeMemory.truth
        return ()

class PalateProbeImages:
    '''Images that cost no sampling: smooth colours, another picture for each place and variant.'''
    INPUT_TYPES = classmethod(
        lambda s: {
            "required": {
                "count": ("INT", {"default": 4, "min": 1, "max": 64}),
                "variant": ("INT", {"default": 0}),
                "width": ("INT", {"default": 128, "max": 2048}),
                "height": ("INT", {"default": 128, "max": 2048}),
            }
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "draw", "test"

    def draw(self, count, variant, width, height):
        noise = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(variant))
        smooth = torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)
        return (smooth.movedim(1, -1),)

class PalateProbeReadOnly:
    '''Has the pack's store behave as on a read-only disk, or as on a sound one again.'''
    INPUT_TYPES = classmethod(lambda s: {"required": {"on": ("BOOLEAN", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "switch", True, "test"
    truth = None

    @classmethod
    def IS_CHANGED(s, **_):
        return float("nan")

    def switch(self, on):
        name = "palate.adapters.comparisons.database"
        database = next(module for key, module in sys.modules.items() if key.endswith(name)).Database
        truth = PalateProbeReadOnly.truth = PalateProbeReadOnly.truth or database.write

        @contextlib.contextmanager
        def refused(self):
            with self.read() as connection:
                connection.execute("PRAGMA query_only = ON")
                try:
                    with truth(self) as connection:
                        yield connection
                finally:
                    connection.execute("PRAGMA query_only = OFF")

        database.write = refused if on else truth
        return ()

class PalateProbeModels:
    '''Which modules and models this process has, once `after` is there.'''
    INPUT_TYPES = classmethod(lambda s: {"required": {"after": (Anything("*"),), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    @classmethod
    def VALIDATE_INPUTS(s, input_types):
        return True

    @classmethod
    def IS_CHANGED(s, **_):
        return float("nan")

    def save(self, after, name):
        import comfy.model_management as management

        loaded = [type(one.model.model).__name__ for one in management.current_loaded_models if one.model is not None]
        found = {"modules": sorted({key.split(".")[0] for key in sys.modules}), "loaded": loaded}
        torch.save(found, Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")
        return ()

NODE_CLASS_MAPPINGS = {
    "PalateProbeReadOnly": PalateProbeReadOnly,
    "PalateProbeModels": PalateProbeModels,
    "PalateProbeImages": PalateProbeImages,
    "PalateProbeMemory": PalateProbeMemory,
    "PalateProbeKept": PalateProbeKept,
    "PalateProbe": PalateProbe,
    "PalateProbeLora": PalateProbeLora,
    "PalateProbeTowers": PalateProbeTowers,
}
"""


class NodeError(Exception):
    """A node failed, or the graph was refused; the text is what the person would read."""


class BrokenHostError(Exception):
    """ComfyUI can't start, whatever is in its custom_nodes."""


@dataclass(frozen=True)
class Host:
    """One running ComfyUI."""

    url: str
    folder: Path
    home: Path  # PALATE_HOME of the process
    log: Path

    def request(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """GET, or POST the body as JSON; returns the parsed answer (bytes when it isn't JSON)."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url + path, data, sent)
        with urllib.request.urlopen(request, timeout=60) as response:
            raw = response.read()
            return json.loads(raw or "null") if "json" in response.headers.get("Content-Type", "") else raw

    def queue(self, graph: dict[str, Any]) -> str:
        """Queue an API graph and return its id.

        Raises:
            NodeError: ComfyUI refused it.
        """
        try:
            told = self.request("/prompt", {"prompt": graph})
        except urllib.error.HTTPError as error:
            raise NodeError(error.read().decode()) from error
        if told["node_errors"]:  # ComfyUI runs what is left of the graph and says so here only
            raise NodeError(json.dumps(told["node_errors"]))
        return str(told["prompt_id"])

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """Wait until a run has ended; returns what the nodes gave the browser, by node id.

        Raises:
            NodeError: a node failed.
        """
        for _ in range(RUN_LIMIT * 20):
            entry = self.request(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                for kind, message in entry["status"]["messages"]:
                    if kind == "execution_error":
                        raise NodeError(f"{message['node_type']}: {message['exception_message']}")
                    if kind == "execution_interrupted":
                        raise NodeError("interrupted")
                outputs: dict[str, Any] = entry["outputs"]
                return outputs
            time.sleep(0.05)
        raise AssertionError(f"no end after {RUN_LIMIT} s; log:\n{self.log.read_text()[-3000:]}")

    def run(self, graph: dict[str, Any]) -> dict[str, Any]:
        """Queue and wait."""
        return self.wait(self.queue(graph))

    def clear(self) -> None:
        """Cancel whatever still runs or waits to run."""
        for _ in range(200):
            queue = self.request("/queue")
            if not queue["queue_running"] and not queue["queue_pending"]:
                return
            self.request("/queue", {"clear": True})
            self.request("/interrupt", {})
            time.sleep(0.05)

    def probe(self, name: str) -> Any:
        """What a PalateProbe node of this name saved."""
        return torch.load(self.folder / "probes" / f"{name}.pt", weights_only=True)


def find_comfyui() -> tuple[Path, Path] | str:
    """ComfyUI's folder and its Python, or why there is none."""
    folder = Path(os.environ.get("COMFYUI_PATH", "").strip() or Path.home() / "comfy" / "ComfyUI").expanduser()
    if not (folder / "main.py").is_file():
        return f"no ComfyUI in {folder}; set COMFYUI_PATH"
    own = [folder / ".venv" / "bin" / "python", folder / ".venv" / "Scripts" / "python.exe"]
    python = next((path for path in own if path.is_file()), Path(sys.executable))
    wanted = "torch aiohttp safetensors transformers alembic av yaml PIL comfyui_frontend_package"
    look = f"import importlib.util as u; print(*(m for m in {wanted.split()!r} if u.find_spec(m) is None))"
    done = subprocess.run([str(python), "-c", look], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode or done.stdout.strip():
        return f"ComfyUI in {folder} can't run with {python}: no {done.stdout.strip() or 'working Python'}"
    return folder, python


def install_pack(custom_nodes: Path) -> None:
    """Put this repository into custom_nodes as ComfyUI-Manager would; untrained models if none are shipped."""
    pack = custom_nodes / "palate"
    if (ROOT / "adapters" / "playground" / "models" / "model_index.json").is_file():
        pack.symlink_to(ROOT, target_is_directory=True)
        return
    from palate.adapters.playground.untrained import make_untrained

    pack.mkdir()
    for part in ("__init__.py", "pyproject.toml", "nodes", "ui", "locales", "example_workflows"):
        (pack / part).symlink_to(ROOT / part)
    shutil.copytree(ROOT / "adapters", pack / "adapters", ignore=shutil.ignore_patterns("__pycache__", "models"))
    make_untrained(pack / "adapters" / "playground" / "models")


def start(folder: Path, comfyui: Path, python: Path, home: Path | None = None) -> tuple[Host, subprocess.Popen[bytes]]:
    """Start ComfyUI with everything it writes below `folder`, and wait until it answers.

    Args:
        folder: Of its own. comfyui, python: As `find_comfyui` gives them.
        home: PALATE_HOME; None: one below `folder`.
    """
    home = home or folder / "home"
    for name in (
        "custom_nodes/palate_probe",
        "probes",
        "models/checkpoints",
        "models/clip_vision",
        "models/text_encoders",
    ):
        (folder / name).mkdir(parents=True)
    home.mkdir(parents=True, exist_ok=True)
    (folder / "custom_nodes" / "palate_probe" / "__init__.py").write_text(PROBE)
    shutil.copy(Path(__file__).with_name("user_nodes.py"), folder / "custom_nodes")
    install_pack(folder / "custom_nodes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PALATE_HOME": str(home),
        "PALATE_PROBES": str(folder / "probes"),
        "PALATE_TRAIN_PYTHON": sys.executable,
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("PYTHONPATH", None)
    command = [str(python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(folder), "--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
    if frontend := os.environ.get("COMFYUI_FRONTEND"):  # another version's `static` folder
        command += ["--front-end-root", frontend]
    log = folder / "comfyui.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=comfyui, env=environment, stdout=out, stderr=subprocess.STDOUT)
    host = Host(f"http://127.0.0.1:{port}", folder, home, log)
    for _ in range(START_LIMIT * 5):
        try:
            host.request("/system_stats")
            return host, process
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                break
            time.sleep(0.2)
    stop(process)
    said = log.read_text()
    if "Import times for custom nodes" not in said:  # it fell over before it looked at any pack
        raise BrokenHostError(f"this ComfyUI doesn't start: {said.strip().splitlines()[-1] if said.strip() else '?'}")
    raise AssertionError(f"ComfyUI did not start:\n{said[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and wait for it."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)
