"""For scripts: every command says what it did as JSON, with an exit code, and shows no progress in a pipe."""

import argparse
import io
import json
import sys
from types import SimpleNamespace

import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.ui import cli, commands
from palate.ui.study_tables import tables_of
from palate.ui.terminal import progress_line


def leaves(parser, words=()):
    """All commands without commands of their own, by their words."""
    inner = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not inner:
        yield " ".join(words), parser
    for action in inner:
        for name, one in action.choices.items():
            yield from leaves(one, (*words, name))


COMMANDS = dict(leaves(cli.parser()))


def test_all_commands_of_the_contract_are_there():
    wanted = ["compare", "fit", "show", "generate", "rank", "import", "evaluate", "user", "blend", "people", "study"]
    assert {*wanted, "train lora", "train ppd", "export answers", "export embedding"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"panel", "study"}))
def test_every_command_can_say_it_as_json(name):
    assert "--json" in COMMANDS[name]._option_string_actions


@pytest.mark.parametrize("words", [["two", "--json"], ["two", "--json", "--people", "3"]])
def test_a_studys_tables_come_as_json(monkeypatch, capsys, words):
    def run(arguments):
        assert arguments == words[2:]
        sys.stdout.write("### Who wins\n\n| who | share |\n|---|---:|\n| a | 60 % |\n| b | 40 % |\n\nDone.\n")
        return 1

    monkeypatch.setattr(commands, "studies", lambda: ["two"])
    monkeypatch.setattr(commands.importlib, "import_module", lambda *_: SimpleNamespace(run=run))
    assert cli.main(["study", *words]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    rows = [["a", "60 %"], ["b", "40 %"]]
    assert told["tables"] == [{"title": "### Who wins", "columns": ["who", "share"], "rows": rows}]
    assert (told["study"], told["code"]) == ("two", 1) and told["text"].endswith("Done.\n")


def test_a_text_without_tables_has_none():
    assert tables_of("a | b\nno rule below\n\n---\n") == []


def test_people_as_json(tmp_path, capsys):
    with PreferenceStore(tmp_path) as store:
        store.add(Comparison("Mara", "a", "b", "left"))
    assert cli.main(["people", "--store", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"people": [{"person": "Mara", "answers": 1}]}


def test_interrupted_is_130(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "rank", interrupted)
    assert cli.main(["rank", "."]) == 130


def test_progress_is_for_terminals():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    assert progress_line("Looking", io.StringIO()) is None
    progress_line("Looking", terminal)(1, 2)
    assert terminal.getvalue() == "\rLooking 1 of 2"
