"""The command of `make prove-24gb`: what it refuses, in a sentence."""

from __future__ import annotations

import sys

import pytest

from floe.cluster.prove import __main__ as command
from floe.configs.errors import EXIT_CODE_USER_ERROR


def test_a_folder_without_a_tokenizer_is_refused_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["prove", "--tokenizer", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        command.run()
    assert end.value.code == EXIT_CODE_USER_ERROR
    assert capsys.readouterr().err == (
        f"There is no {tmp_path / 'config-3b-instruct.json'}: give --tokenizer, the folder of Qwen2.5-Coder's "
        "tokenizer.\n"
    )


def test_the_tokenizer_has_to_be_given(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prove"])
    with pytest.raises(SystemExit) as end:
        command.run()
    assert end.value.code == EXIT_CODE_USER_ERROR and "--tokenizer" in capsys.readouterr().err
