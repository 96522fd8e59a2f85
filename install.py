"""Palate's one installer; it needs nothing but Python.

    python install.py panel     open the panel in the browser, from an environment of its own (.venv beside this file)
    python install.py test      install what the tests need and run them; what follows goes to pytest
    python install.py train     install what training needs; what follows goes to `palate train`, such as
                                `train lora --person me`
    python install.py           what ComfyUI-Manager runs: install nothing, say what was found

    --torch cpu|cuda            where the package index's default build of PyTorch is the wrong one

The panel also takes --port N, --no-browser, --store FOLDER, --model FOLDER_OR_NAME, --encoder SPEC, --person NAME.
"""

# Only the standard library, and only what Python 3.7 can parse, so that an old Python still gets to say so.
from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
OLDEST, NEWEST = (3, 10), (3, 13)
# PyTorch's documented indexes of builds.
TORCH_INDEX = {"cpu": "https://download.pytorch.org/whl/cpu", "cuda": "https://download.pytorch.org/whl/cu128"}
# What the nodes use of what ComfyUI brings; Pillow's module is PIL.
HOST_MODULES = ("torch", "safetensors", "PIL", "aiohttp", "transformers")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ROOMY_BYTES = 30 << 30  # free; below it pip's cache, which is as much again as it downloads, is left out
WORKERS = 4  # pytest processes at most, one for a core; each runs whole files and takes up to 4 GB with what it starts
LOADS = "import torchvision, diffusers, peft"  # which fails where builds of PyTorch were mixed

# A word in pip's complaint, and what to do about it.
PIP_TROUBLES = (
    ("No space left", "The disk is full. Free about 10 GB (4 GB with --torch cpu) and run the same command again."),
    ("Errno 28", "The disk is full. Free about 10 GB (4 GB with --torch cpu) and run the same command again."),
    (
        "connection",
        "The package index can't be reached. Check the network or the proxy and run the same command again.",
    ),
    (
        "resolution",
        "The package index can't be reached. Check the network or the proxy and run the same command again.",
    ),
    ("Permission denied", "The folder can't be written. Clone Palate to a folder of your own and run it there."),
    ("No matching distribution", "A package has no build for this Python. Run it with Python 3.11 or 3.12."),
)

READY = """Ready to train. Any of these uses it from now on, with nothing to set:
  ComfyUI    the node Train Preference LoRA
  the panel  the tab Train
  here       python "{install}" train lora --person me --model playground"""


class InstallError(Exception):
    """Something that the person can mend; the text says how."""


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if sys.version_info < OLDEST:
        say("Palate needs Python 3.10 to 3.13; this is {}.{}. Run it with a newer one.".format(*sys.version_info[:2]))
        return 1
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("command", nargs="?", choices=["panel", "test", "train"])
    parser.add_argument("--torch", choices=sorted(TORCH_INDEX))
    parser.add_argument("-h", "--help", action="store_true")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.help and not rest:
        say(__doc__.strip())
        return 0
    if arguments.command is None:
        return check_host()
    rest = [word for word in rest if word != "--"] + ["--help"] * arguments.help
    try:
        prepare(arguments.command, arguments.torch)
        if arguments.command == "panel":
            return become([str(venv_python()), "-m", "palate.ui.cli", "panel", *rest])
        if arguments.command == "test":
            return run_tests(rest)
        if rest:
            return become([str(venv_python()), "-m", "palate.ui.cli", "train", *rest])
        say(READY.format(install=ROOT / "install.py"))
        return 0
    except InstallError as error:
        say(f"Palate: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def say(text: str) -> None:
    """Print a line at once, also into a log."""
    print(text, flush=True)


# Inside ComfyUI


def check_host() -> int:
    """Say whether the running Python has what the nodes need; install and change nothing."""
    missing = [name for name in HOST_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        say(f"Palate: installed nothing; {', '.join(missing)} not found here, which ComfyUI brings. Update ComfyUI.")
    else:
        say("Palate: installed nothing; ComfyUI's Python has all that the nodes need.")
    return 0


# The environment


def prepare(extra: str, torch: str | None) -> None:
    """Make `.venv` hold this extra; without a change since the last time, do nothing and need no network."""
    if not venv_works():
        make_venv()
    stamp = VENV / f"palate-{extra}.json"
    before = read_stamp(stamp)
    if before is not None and before == wanted_stamp(torch or before.get("torch")):
        return
    build = torch or installed_build()
    say(f"Palate: installing what '{extra}' needs into {VENV}. The first time takes minutes and several GB.")
    if torch is not None and torch != installed_build():
        for other in VENV.glob("palate-*.json"):
            other.unlink()  # until the new build is whole, nothing is ready
        # --force-reinstall: a build of the other kind may be there, and pip would take it for good enough.
        pip("--force-reinstall", "--index-url", TORCH_INDEX[torch], "torch", "torchvision")
        (VENV / "palate-torch.txt").write_text(torch)
    pip("--editable", f"{ROOT}[{extra}]")
    if extra == "train" and run([str(venv_python()), "-c", LOADS]) != 0:
        raise InstallError(
            f"what was installed doesn't load; the lines above say why. Delete {VENV} and run the same command again, "
            "with --torch cpu or --torch cuda if builds of PyTorch were mixed."
        )
    stamp.write_text(json.dumps(wanted_stamp(build), indent=1))


def wanted_stamp(torch: str | None) -> dict[str, str | None]:
    """Return what an environment is made from: it is ready as long as this is what its stamp says."""
    return {
        "pyproject": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "python": venv_version(),
        "folder": str(ROOT),
        "torch": torch,
    }


def read_stamp(stamp: Path) -> dict[str, str | None] | None:
    """Return what a stamp says, None when there is none or it was cut off."""
    try:
        content = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def installed_build() -> str | None:
    """Return the build of PyTorch that was asked for earlier, None for the package index's default."""
    try:
        return (VENV / "palate-torch.txt").read_text().strip()
    except OSError:
        return None


def venv_python() -> Path:
    """Return the environment's Python."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_version() -> str:
    """Return the environment's Python version as its own file says."""
    lines = (VENV / "pyvenv.cfg").read_text().splitlines()
    return next((line.split("=")[1].strip() for line in lines if line.startswith("version")), "")


def venv_works() -> bool:
    """Return whether the environment is there and its Python still is, too."""
    return venv_python().exists() and (VENV / "pyvenv.cfg").exists()


def make_venv() -> None:
    """Make the environment, or say what is missing for it."""
    version = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] > NEWEST:
        say(f"Palate: it is tested on Python 3.10 to 3.13; this is {version}. Trying all the same.")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise InstallError(
            f"this Python {version} can't make environments. On Debian: apt-get install python{version}-venv. "
            "Elsewhere: install Python from python.org."
        )
    say(f"Palate: making {VENV} with Python {version}.")
    # A broken environment of an earlier time is cleared; a folder that never was one is not ours to clear.
    clear = ["--clear"] if (VENV / "pyvenv.cfg").exists() else []
    if run([sys.executable, "-m", "venv", *clear, str(VENV)]) != 0:
        raise InstallError(f"{VENV} can't be made; the lines above say why. Mend that and run the same command again.")


def pip(*arguments: str) -> None:
    """Install into the environment; pip's complaints come through, and a line on what to do."""
    # --no-compile: Python compiles what it imports, once, which is a small part of all that is installed.
    options = ["--disable-pip-version-check", "--no-compile"]
    if shutil.disk_usage(VENV).free < ROOMY_BYTES:
        options.append("--no-cache-dir")
    command = [str(venv_python()), "-m", "pip", "install", *options, *arguments]
    if not sys.stdout.isatty():
        command.insert(4, "--quiet")
    code, errors = run_and_keep(command, "stderr")
    if code == 0:
        return
    for word, advice in PIP_TROUBLES:
        if any(word in line for line in errors):
            raise InstallError(advice)
    raise InstallError("pip failed; the lines above say why. Mend that and run the same command again.")


# The tests


def run_tests(arguments: Sequence[str]) -> int:
    """Run the checks and the tests, all of them also when one fails; return the first exit code that isn't 0."""
    if not arguments or any("browser" in word for word in arguments):
        get_browser()
    python = str(venv_python())
    codes = {
        "ruff check": run([python, "-m", "ruff", "check", "."]),
        "ruff format": run([python, "-m", "ruff", "format", "--check", "."]),
        "mypy": run([python, "-m", "mypy", "--strict", "--explicit-package-bases", "adapters"]),
    }
    cores = os.cpu_count() or 1
    workers = 1 if arguments else min(cores, WORKERS)
    # In the order of their folders, those that start servers first: at the end no worker waits for another's long file.
    parallel = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"] if workers > 1 else []
    # Workers that each start a thread for every core would stand in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", str(cores // workers))
    slowest = [] if arguments else ["--durations=20"]  # whoever waits for all of them is told where the time goes
    code, lines = run_and_keep([python, "-m", "pytest", *parallel, *slowest, *arguments], "stdout")
    codes["pytest"] = code
    for name, found in codes.items():
        say(f"{name}: {'passed' if found == 0 else f'failed with {found}'}")
    say(lines[-1] if lines else "pytest printed nothing")
    return next((found for found in codes.values() if found != 0), 0)


def get_browser() -> None:
    """Install Chromium for the browser tests where that needs no question; else say that they will skip."""
    if any(shutil.which(name) for name in BROWSERS):
        return
    may_install = shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0
    if may_install:
        say("Palate: installing Chromium for the browser tests.")
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        update = run(["apt-get", "update", "-qq"])
        if (
            update == 0
            and run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], quiet=True) == 0
        ):
            return
    say("Palate: there is no Chromium here, so the browser tests will skip. Install it to run them.")


# Processes


def run(command: Sequence[str], quiet: bool = False) -> int:
    """Run a command in Palate's folder and return its exit code, 127 when there is no such program."""
    try:
        return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL if quiet else None).returncode
    except FileNotFoundError as error:
        say(f"Palate: {error}")
        return 127


def run_and_keep(command: Sequence[str], stream: str) -> tuple[int, list[str]]:
    """Run a command, pass its output through as it comes, and return the exit code and the lines of one stream."""
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, text=True, encoding="utf-8", errors="replace", **{stream: subprocess.PIPE}
    ) as process:
        for line in getattr(process, stream):
            print(line, end="", flush=True)
            if line.strip():
                lines.append(line.rstrip())
    return process.returncode, lines


def become(command: Sequence[str]) -> int:
    """Hand over to another program: its signals and its exit code are ours."""
    if os.name == "posix":
        os.execv(command[0], command)
    # Windows has no exec: wait, and leave ctrl-C to the program, which gets it as well.
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
