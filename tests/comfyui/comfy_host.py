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
        "custom_nodes",
        "probes",
        "models/checkpoints",
        "models/clip_vision",
        "models/text_encoders",
    ):
        (folder / name).mkdir(parents=True)
    home.mkdir(parents=True, exist_ok=True)
    for nodes in ("probe_nodes.py", "user_nodes.py"):
        shutil.copy(Path(__file__).with_name(nodes), folder / "custom_nodes")
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
