"""`floe compare`: two saved evaluations, question by question."""

from __future__ import annotations

from pathlib import Path

from floe.cluster.evaluation.paired_comparison import compare_evaluations
from floe.cluster.evaluation.saved_evaluation import EVALUATIONS_FOLDER, TRAINED, read_evaluation
from floe.cluster.run_folder.file_names import EVALUATION_FILE
from floe.cluster.terminal.progress import make_console
from floe.configs.errors import UserError

NUM_RESAMPLES = 10_000


def compare(a: Path, b: Path, as_json: bool) -> None:
    """Print the comparison of `b` to `a` on stdout. Raises UserError for what can't be compared."""
    first, second = (read_evaluation(evaluation_path(folder)) for folder in (a, b))
    report = compare_evaluations(first, second, (str(a), str(b)), NUM_RESAMPLES)
    if as_json:
        print(report.to_json(), end="")
    else:
        report.render(make_console())


def evaluation_path(folder: Path) -> Path:
    """Return the evaluation in a folder of `floe evaluate --out` or a run (its trained policy), or the file."""
    choices = (folder, folder / EVALUATION_FILE, folder / EVALUATIONS_FOLDER / TRAINED / EVALUATION_FILE)
    found = next((path for path in choices if path.is_file()), None)
    if found is None:
        raise UserError(
            f"There is no evaluation in {folder}: give a folder that 'floe evaluate --out' wrote, or that of a run "
            "that ended with its evaluation."
        )
    return found
