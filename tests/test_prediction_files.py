"""Prediction files: the ids that they give, against those of the questions."""

from __future__ import annotations

import json

import pytest

from floe.cluster.evaluation.prediction_files import read_predictions
from floe.configs.errors import UserError


@pytest.mark.parametrize("given", [7, "7", 7.0])
def test_an_id_is_found_however_its_file_writes_it(tmp_path, given):
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps({"question_id": given, "sql": "SELECT 1"}))
    (found,) = read_predictions(path, ["7"])
    assert (found.question_id, found.shown_id) == ("7", given)


@pytest.mark.parametrize("given", [True, 7.5, None, [7]])
def test_what_is_no_id_is_said(tmp_path, given):
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps({"question_id": given, "sql": "SELECT 1"}))
    with pytest.raises(UserError, match="no question_id that is text or a whole number"):
        read_predictions(path, ["7"])
