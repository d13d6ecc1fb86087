"""`floe fields`: every field of the schema, those with a word, and a word that none has."""

import sys

import pytest

from floe.cluster.cli import main
from floe.configs.files.complaints import dotted_keys


def shown(word: str, capsys, monkeypatch) -> str:
    monkeypatch.setattr(sys, "argv", ["floe", "fields", *([word] if word else [])])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    return capsys.readouterr().out


def keys_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(" ")]


def test_every_field_is_shown(capsys, monkeypatch):
    assert keys_of(shown("", capsys, monkeypatch)) == list(dotted_keys())


def test_a_field_is_shown_with_what_it_takes(capsys, monkeypatch):
    text = shown("RANDOM STREAM of the run", capsys, monkeypatch)
    assert text.splitlines() == [
        "run.seed",
        "  Every random stream of the run derives from it.",
        "  value: a whole number, at least 0, at most 4,294,967,295",
        "  default: `1`",
        "  at a resume: refused, because it would be another run",
    ]


def test_a_word_is_found_in_names_and_descriptions_in_any_case(capsys, monkeypatch):
    assert "run.seed" in keys_of(shown("derives FROM it", capsys, monkeypatch))
    named = keys_of(shown("kl_", capsys, monkeypatch))
    assert "algorithm.kl_coefficient" in named and len(named) < len(dotted_keys()) / 4


def test_a_word_of_no_field_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["floe", "fields", "zebra"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "No field has 'zebra'" in capsys.readouterr().err
