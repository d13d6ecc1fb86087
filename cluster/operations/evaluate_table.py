"""`floe evaluate --benchmarks`: one table of data sets by policies, filled cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from floe.cluster.benchmark_table.cell_store import CellStore, StoredTable
from floe.cluster.benchmark_table.engine_answers import all_answers
from floe.cluster.benchmark_table.filling import Answers, Filled, fill
from floe.cluster.benchmark_table.printed import print_table
from floe.cluster.benchmark_table.rows import Column, column_of, row_of, with_clock_of
from floe.cluster.benchmark_table.table import nothing_answered, table_of
from floe.cluster.benchmark_table.table_file import Policy, TableFile, read_table_file
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.models.model_folder import model_folder
from floe.cluster.operations.time_planning import limited_to_machine
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.precision.resolved import with_dtypes, with_precision, with_recorded_precision
from floe.cluster.preparation.clock import present_instant
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import EXIT_CODE_INCOMPLETE, UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import AUTO_CLOCK

AUTO_DTYPE = "auto"
ANSWERS_FOLDER = "endpoint_answers"  # of an out-folder; without one they are kept in the home folder


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """Options of the command, which override the file's. Without `out` the cells are not kept."""

    file: Path
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    adapter: Path | None = None
    split: str | None = None
    samples: int | None = None
    limit: int | None = None
    out: Path | None = None
    as_json: bool = False


def evaluate_table(options: TableOptions) -> int:
    """Print the table on stdout; progress goes to stderr. Return the exit code: 3 where a cell could not be filled.

    Raises UserError for bad input, and for a table without any cell.
    """
    file = with_options(read_table_file(options.file), options)
    config = _config(file, options)
    progress = Progress(make_console(stderr=True))
    progress.phase("set-up")
    check_plugins(config)
    model_dir = model_folder(config, config.run.home_dir / "demo")
    answers_dir = None if options.out is None else options.out / ANSWERS_FOLDER
    with _store(options.out) as store:
        try:
            config, filled = _filled(config, file, store, model_dir, progress, answers_dir)
        except KeyboardInterrupt:
            if options.out is not None:
                progress.note(f"finished cells stay in {options.out}: the same command goes on from there")
            raise
    resampled = config.evaluation.num_bootstrap
    table = table_of(filled, num_samples=file.samples or 0, num_resamples=resampled, seed=config.run.seed)
    if options.as_json:
        print(table.to_json(), end="")
    else:
        print_table(table, make_console())
    if (error := nothing_answered(table)) is not None:
        raise error
    return EXIT_CODE_INCOMPLETE if table.has_faults else 0


def with_options(file: TableFile, options: TableOptions) -> TableFile:
    """Return the file with what the command line has otherwise; an adapter there takes the place of all policies."""
    given = {"limit": options.limit, "split": options.split}
    of_folders = {name: value for name, value in given.items() if value is not None}
    of_files = {name: value for name, value in of_folders.items() if name != "split"}  # they have none
    policies = file.policies
    if options.adapter is not None:
        policies = (Policy(name="base", base=True), Policy(name="adapter", adapter=options.adapter))
    return file.model_copy(
        update={
            "benchmarks": tuple(
                one.model_copy(update=of_folders if one.questions is None else of_files) for one in file.benchmarks
            ),
            "policies": policies,
            "samples": options.samples or file.samples,
        }
    )


def _config(file: TableFile, options: TableOptions) -> RunConfig:
    """Return the configuration that all data sets share. Raises ConfigError."""
    path = options.config or file.config
    if path is None:
        raise UserError(f"{options.file} names no configuration: add 'config: NAME', or give --config.")
    samples = [] if file.samples is None else [f"evaluation.num_samples={file.samples}"]
    config = load_config(path, [*options.overrides, *samples])
    changes = {"num_timings": 0} | ({"num_samples": 1, "temperature": 0.0} if file.samples is None else {})
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})


@contextmanager
def _store(out: Path | None) -> Iterator[CellStore]:
    with TemporaryDirectory(prefix="floe-table-") as temporary:
        store = CellStore(Path(temporary) if out is None else out)
        store.open()
        try:
            yield store
        finally:
            store.close()


def _filled(
    config: RunConfig,
    file: TableFile,
    store: CellStore,
    model_dir: Path,
    progress: Progress,
    answers_dir: Path | None,
) -> tuple[RunConfig, Filled]:
    config = _decided(config, file, store.table(), progress)
    columns = [column_of(config, model_dir, one) for one in file.policies]
    rows = [row_of(config, model_dir, one, progress) for one in file.benchmarks]
    table = StoredTable(clock=config.reward.clock, model_dtype=config.model.dtype, rollout_dtype=config.rollout.dtype)

    def answers(at_work: Sequence[Column]) -> AbstractContextManager[Answers]:
        return all_answers(at_work, config, model_dir, progress, answers_dir, with_samples=file.samples is not None)

    return config, fill(rows, columns, store, table, answers, progress)


def _decided(config: RunConfig, file: TableFile, earlier: StoredTable | None, progress: Progress) -> RunConfig:
    """Decide what the configuration leaves open, once for all cells: by the folder's table, or an adapter's run."""
    if earlier is not None:
        model, rollout = config.model.dtype, config.rollout.dtype
        config = with_dtypes(
            config,
            earlier.model_dtype if model == AUTO_DTYPE else model,
            earlier.rollout_dtype if rollout == AUTO_DTYPE else rollout,
        )
    config = with_recorded_precision(config, next((one.adapter for one in file.policies if one.adapter), None))
    decided = with_precision(config, lambda: shape_of(config))
    progress.note(decided.line)
    config = limited_to_machine(decided.config, progress)
    if config.reward.clock == AUTO_CLOCK:
        config = with_clock_of(config, present_instant() if earlier is None else earlier.clock)
    progress.note(f"SQL gets {config.reward.clock} UTC for the present time, or what its data set says")
    return config
