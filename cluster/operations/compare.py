"""`floe compare`: saved evaluations, question by question, or two benchmark tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.cluster.benchmark_table.cell_store import is_table
from floe.cluster.benchmark_table.comparison import compare_tables
from floe.cluster.evaluation.paired_comparison import compare_evaluations
from floe.cluster.evaluation.saved_evaluation import EVALUATIONS_FOLDER, TRAINED, read_evaluation
from floe.cluster.evaluation.seed_comparison import compare_seeds
from floe.cluster.run_folder.file_names import EVALUATION_FILE
from floe.cluster.terminal.progress import make_console
from floe.configs.errors import EXIT_CODE_INCOMPLETE, UserError

NUM_RESAMPLES = 10_000


def compare(a: Path, others: Sequence[Path], as_json: bool, *, in_pairs: bool = False) -> int:
    """Print the comparison of the others to `a`, evaluations or two benchmark tables, on stdout; return the exit code.

    With `in_pairs` they are A1 B1 A2 B2 and so on, and each B is compared with its A. The code is 3 where a data set of
    two tables can't be compared. Raises UserError for what can't be compared.
    """
    b, *more = others
    if in_pairs and len(others) % 2 == 0:
        raise UserError(f"--pairs got {len(others) + 1} evaluations: give A1 B1 A2 B2 and so on, an even number.")
    if more:
        firsts, seeds = ([a, *others[1::2]], others[::2]) if in_pairs else ([a], others)
        return _compare_seeds(firsts, seeds, as_json)
    if is_table(a) or is_table(b):
        tables = compare_tables(a, b, NUM_RESAMPLES)
        if as_json:
            print(tables.to_json(), end="")
        else:
            tables.render(make_console())
        return EXIT_CODE_INCOMPLETE if tables.has_faults else 0
    first, second = (read_evaluation(evaluation_path(folder)) for folder in (a, b))
    report = compare_evaluations(first, second, (str(a), str(b)), NUM_RESAMPLES)
    if as_json:
        print(report.to_json(), end="")
    else:
        report.render(make_console())
    return 0


def _compare_seeds(firsts: Sequence[Path], seeds: Sequence[Path], as_json: bool) -> int:
    table = next((one for one in (*firsts, *seeds) if is_table(one)), None)
    if table is not None:
        raise UserError(f"{table} is a benchmark table, of which floe compare takes two: give A and one B.")
    before, after = ([read_evaluation(evaluation_path(one)) for one in some] for some in (firsts, seeds))
    report = compare_seeds(before, after, list(map(str, firsts)), list(map(str, seeds)), NUM_RESAMPLES)
    if as_json:
        print(report.to_json(), end="")
    else:
        report.render(make_console())
    return 0


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
