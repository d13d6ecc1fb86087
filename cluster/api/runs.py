"""A run's folder as an object: its metrics, table, adapter and report page."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.run_folder.status_file import found_status
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.schema import RunConfig

if TYPE_CHECKING:
    from floe.cluster.api.asking import Answer
    from floe.cluster.api.evaluating import Evaluation
    from floe.cluster.api.questions import Questions
    from floe.cluster.api.settings import Overrides
    from floe.cluster.api.shown import Table


class Run:
    """A run of training, finished or not; what it returns is read from the folder at each call.

    Raises UserError for a folder without a run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().resolve()
        config_of_run(self.folder, ())

    def __fspath__(self) -> str:
        """Return the folder, so that a run can stand for it: overrides={"lora.initial_adapter": run}."""
        return str(self.folder)

    @property
    def config(self) -> RunConfig:
        """Configuration of the run, with every value that was left open decided."""
        return config_of_run(self.folder, ())

    @property
    def state(self) -> str:
        """State as `floe status` says it: "finished", "interrupted", "failed", "died", or a phase of a run at work."""
        status = found_status(self.folder)
        return "not known" if status is None else status.state.value

    @property
    def records(self) -> list[dict[str, Any]]:
        """One record per step, with the names of docs/runs.md; empty before the first step has ended."""
        path = self.folder / METRICS_FILE
        if not path.is_file():
            return []
        whole = path.read_text(encoding="utf-8").split("\n")[:-1]  # a run at work may be writing the last line
        return [parsed_json(line) for line in whole]

    @property
    def metrics(self) -> Any:
        """The records as a pandas DataFrame with one row per step; the list of records where pandas is missing."""
        try:
            import pandas
        except ImportError:
            return self.records
        return pandas.DataFrame(self.records)

    @property
    def table(self) -> Table | None:
        """The table before and after training; None before the run has made it, and for one without evaluation.

        Raises UserError when its file was damaged.
        """
        from floe.cluster.api.shown import Table
        from floe.cluster.evaluation.results import read_report

        try:
            figures = read_report(self.folder)
        except ValueError as fault:
            raise UserError(
                f"The table in {self.folder} can't be read ({fault}): did another version write it?"
            ) from fault
        return None if figures is None else Table(figures)

    @property
    def adapter(self) -> Path:
        """The PEFT folder of the best adapter where the run has evaluated while training, else of the latest.

        Raises UserError before there is one.
        """
        from floe.cluster.exports.run_adapters import find_adapter

        return find_adapter(self.folder, None).folder

    def report(self, out: str | Path | None = None) -> Path:
        """Write the run's HTML page, `report.html` in its folder without `out`, and return its path.

        Raises UserError when it can't be written.
        """
        from floe.cluster.operations.report import written_page

        return written_page(self.folder, None if out is None else Path(out))

    def evaluate(
        self,
        questions: Questions | None = None,
        *,
        databases: str | Path | None = None,
        overrides: Overrides | None = None,
        num_samples: int | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """Do as `floe.evaluate` does with this run's adapter."""
        from floe.cluster.api.evaluating import evaluate

        return evaluate(
            self, questions, databases=databases, overrides=overrides, num_samples=num_samples, progress=progress
        )

    def ask(
        self,
        question: str,
        database: str | Path,
        *,
        evidence: str = "",
        overrides: Overrides | None = None,
        max_rows: int = 20,
        progress: bool = True,
    ) -> Answer:
        """Do as `floe.ask` does with this run's adapter; `database` may also be a db_id of the run's databases."""
        from floe.cluster.api.asking import ask

        return ask(
            question,
            self._database(database),
            adapter=self,
            evidence=evidence,
            overrides=overrides,
            max_rows=max_rows,
            progress=progress,
        )

    def _database(self, named: str | Path) -> Path:
        """Return the file, of one of the run's databases for a db_id."""
        path = Path(named).expanduser()
        if isinstance(named, Path) or path.is_file():
            return path
        from floe.actors.sources.run_sets import sets_of_run
        from floe.cluster.databases.places import find_database, is_plain_name

        if not is_plain_name(named):
            return path
        return find_database(sets_of_run(self.config).databases_dir, named) or path

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        records, table = self.records, self.table
        shown = "" if table is None else table._repr_html_()
        return (
            f"<p><b>Run</b> {escape(str(self.folder))}: {escape(self.state)}, "
            f"{len(records)} of {self.config.run.num_steps} steps</p>{shown}"
        )
