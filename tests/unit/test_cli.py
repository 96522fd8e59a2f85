"""The command line: what it prints, where, and with which exit code."""

import os
import subprocess
import sys

import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import PreferenceError, StoreError
from palate.ui import cli, commands
from palate.ui.devices import DeviceError, require_device
from PIL import Image


def test_version_is_printed_and_ends_with_0(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("palate ")


def test_an_expected_error_is_one_line_and_exit_code_2(capsys, monkeypatch):
    def refuse(arguments):
        raise StoreError("Cannot open the store:\nfound a file; expected a folder.")

    monkeypatch.setattr(commands, "panel", refuse)
    assert cli.main(["panel"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "palate: Cannot open the store: found a file; expected a folder.\n"
    assert shown.out == ""


def test_who_reads_no_further_is_no_error():
    told = "commands.people = lambda arguments: print('answers ' * 1_000_000) or 0"
    code = f"from palate.ui import cli, commands; {told}; raise SystemExit(cli.main(['people']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert (running.stderr.read(), running.wait(60)) == (b"", 0)


def test_an_unknown_study_names_itself(capsys):
    assert cli.main(["study", "../secrets"]) == 2
    assert "Cannot run the study '../secrets'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_study_without_a_name_lists_what_there_is(arguments, capsys, monkeypatch):
    monkeypatch.setattr(commands, "studies", lambda: ["bt-accuracy"])
    assert cli.main(["study", *arguments]) == 0
    assert "bt-accuracy" in capsys.readouterr().out


def test_show_is_about_the_panels_first_person_unless_told():
    assert cli.parser().parse_args(["show", "--html", "me.html"]).person == "me"
    assert cli.parser().parse_args(["show", "mara", "--html", "mara.html"]).person == "mara"


def test_a_study_gets_the_arguments_behind_its_name(monkeypatch):
    seen = []

    class Module:
        @staticmethod
        def run(argv):
            seen.extend(argv)
            return 3

    monkeypatch.setattr(commands, "studies", lambda: ["bt-accuracy"])
    monkeypatch.setattr(commands.importlib, "import_module", lambda name, package=None: Module)
    assert cli.main(["study", "bt-accuracy", "--people", "4", "--help"]) == 3
    assert seen == ["--people", "4", "--help"]


def test_panel_options_reach_the_command(monkeypatch):
    seen = {}
    monkeypatch.setattr(commands, "panel", lambda arguments: seen.update(vars(arguments)) or 0)
    assert cli.main(["panel", "--port", "0", "--no-browser", "--store", "s", "--person", "Mara"]) == 0
    assert (seen["port"], seen["no_browser"], seen["store"], seen["person"]) == (0, True, "s", "Mara")
    assert (seen["model"], seen["encoder"], seen["offload"]) == ("playground", None, "auto")


def test_sdxls_two_encoders_are_both_taken(monkeypatch):
    seen = {}
    monkeypatch.setattr(commands, "panel", lambda arguments: seen.update(vars(arguments)) or 0)
    assert cli.main(["panel", "--model", "m", "--encoder", "a", "--encoder", "b", "--offload", "model"]) == 0
    assert (seen["encoder"], seen["offload"]) == (["a", "b"], "model")


def test_the_name_alone_shows_every_command(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr()
    assert "Teach an image generator" in shown.err and "who has answered" in shown.err and shown.out == ""


@pytest.mark.parametrize("port", ["abc", "70000", "-1"])
def test_what_is_no_port_is_said_in_words(port, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["panel", f"--port={port}"])
    assert end.value.code == 2
    assert f"'{port}' is no port; expected 0 to 65535" in capsys.readouterr().err


def test_an_export_says_how_many_people_are_in_it(capsys, tmp_path):
    with PreferenceStore(tmp_path / "store") as store:
        pictures = [store.add_image(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue")]
        store.add(Comparison("ann", *pictures, "left"))
        saved = ["export", "answers", "--store", str(tmp_path / "store"), "-o"]
        assert cli.main([*saved, str(tmp_path / "one")]) == 0
        store.add(Comparison("ben", *pictures, "right"))
        assert cli.main([*saved, str(tmp_path / "two")]) == 0
    shown = capsys.readouterr().out
    assert "Saved 1 answer of 1 person in" in shown and "Saved 2 answers of 2 people in" in shown


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--model", "/no/such/model.safetensors"], "'/no/such/model.safetensors': no such file or folder"),
        (["--encoder", "/no/such/clip.safetensors"], "encoder '/no/such/clip.safetensors'"),
        (["--device", "tpu"], "on 'tpu'"),
        (["--device", "cuda:99"], "on 'cuda:99'"),
    ],
)
def test_a_panel_that_cannot_open_says_so_in_one_line(options, named, capsys, tmp_path):
    pytest.importorskip("gradio")
    assert cli.main(["panel", "--no-browser", "--store", str(tmp_path / "store"), *options]) == 2
    shown = capsys.readouterr()
    assert named in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("port", ["-1", "70000", "many"])
def test_a_port_that_cannot_be_is_refused(port, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["panel", "--port", port])
    assert end.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "people", interrupted)
    assert cli.main(["people"]) == 130


def test_people_of_a_store_that_is_not_there(tmp_path, capsys):
    pytest.importorskip("palate.adapters.places")
    assert cli.main(["people", "--store", str(tmp_path / "no")]) == 2
    assert "found no store" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert cli.main(["people", "--store", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())


def test_people_are_counted_as_the_panel_counts_them(tmp_path, capsys):
    with PreferenceStore(tmp_path / "store") as store:
        for person, outcome in (("bo", "skip"), ("ann", "left"), ("bo", "tie"), ("ann", "skip"), ("ann", "right")):
            store.add(Comparison(person, "1" * 64, "2" * 64, outcome))
    assert cli.main(["people", "--store", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out == "ann\t2\nbo\t1\n"


def test_command_errors_are_preference_errors():
    assert issubclass(commands.CommandError, PreferenceError)


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "palate.ui.cli", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:7]) == (0, "palate ")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpu", "Cannot compute on 'gpu': that is no device; expected cpu, cuda, cuda:1 or mps."),
        ("meta", "Cannot compute on 'meta': that is no device"),
        ("cuda", "sees no GPU of that kind here; expected its driver"),
        ("mps", "this is no Mac with a GPU"),
    ],
)
@pytest.mark.parametrize("words", [["generate", "a star"], ["train", "lora"], ["show"], ["fit"]])
def test_a_device_that_is_not_there_is_one_line(words, name, told, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cli.main([*words, "--device", name]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


def test_of_several_gpus_those_that_are_there_are_taken(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_device("cuda")
    require_device("cuda:1")
    with pytest.raises(DeviceError, match="sees 2 here; expected 0 to 1"):
        require_device("cuda:2")


@pytest.mark.parametrize(("given", "told"), [(None, "10000"), ("0", "0")])
def test_threads_do_not_spin_where_others_compute_unless_that_is_asked_for(given, told):
    """Set before torch is loaded: OpenMP reads it once."""
    look = "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    code = f"import os, sys; from palate.ui import cli, commands; commands.people = lambda arguments: {look} or 0; "
    own = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    own |= {} if given is None else {"GOMP_SPINCOUNT": given}
    command = [sys.executable, "-c", code + "cli.main(['people'])"]
    assert subprocess.run(command, env=own, capture_output=True, text=True, timeout=60).stdout == f"{told} False\n"


def test_a_store_that_is_not_there_is_told_before_torch_is_loaded(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "one.png")
    commands = ["people", "show", "fit", "rank pictures", "user", "prompt star", "next", "export answers -o out"]
    commands += ["export embedding", "evaluate pictures --person me", "generate star --for me"]
    commands += ["train lora", "train ppd"]
    look = (
        "import sys; from palate.ui import cli\n"
        f"print([cli.main([*one.split(), '--store', 'none']) for one in {commands}], 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout == f"{[2] * len(commands)} False\n"
    assert ran.stderr.count("found no store there") == ran.stderr.count("\n") == len(commands)
