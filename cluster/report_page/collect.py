"""Collects a run's page from its folder, part by part: a missing part does not affect the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from floe.cluster.evaluation.before_after_table import WARM_START, EvaluationReport, start_row
from floe.cluster.evaluation.plain_words import all_zero
from floe.cluster.evaluation.results import read_best, read_report
from floe.cluster.evaluation.saved_evaluation import EVALUATIONS_FOLDER, TRAINED, Evaluation, read_evaluation
from floe.cluster.messages import Question
from floe.cluster.questions.of_run import RunQuestions, questions_of_run, schemas_of
from floe.cluster.report_page.browser_data import BrowserData, ShownGroup, statements_of_changes, statements_of_groups
from floe.cluster.report_page.evaluation_views import Changes, changes, database_rows
from floe.cluster.report_page.figures import policies_figure, step_figures
from floe.cluster.report_page.overview import facts, missing, settings
from floe.cluster.report_page.result_rows import RunResults, results_of
from floe.cluster.report_page.run_page import Rollouts, RunPage
from floe.cluster.report_page.shown_rollouts import SampledRollouts, sampled_rollouts
from floe.cluster.report_page.source_figures import source_rows
from floe.cluster.report_page.step_series import StepSeries, parse_metrics, with_outcomes
from floe.cluster.run_folder.file_names import CONFIG_FILE, EVALUATION_FILE, METRICS_FILE, REPORT_FILE
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.run_folder.status import RunStatus
from floe.cluster.run_folder.status_file import found_status
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

NUM_RESAMPLES = 10_000
FIRST_EVALUATIONS = ("start", "base_model")  # the trained policy is compared with the first that exists

T = TypeVar("T")


def collect_page(run_dir: Path, now_s: float) -> RunPage:
    """Collect the page; `now_s` is in Unix seconds. Raises UserError for a folder that holds no run."""
    if not (run_dir / CONFIG_FILE).is_file():
        raise UserError(f"{run_dir} is no run folder (it has no {CONFIG_FILE}): give the one that floe train printed.")
    faults: list[str] = []
    config = _or_fault(lambda: config_of_run(run_dir, ()), faults)
    status = found_status(run_dir)
    sample = sampled_rollouts(run_dir)
    series = with_outcomes(_series(run_dir, faults), sample.outcomes)
    report = _read_report(run_dir, faults)
    first, last = _evaluations(run_dir, faults)
    changed = None if first is None or last is None else _or_fault(lambda: changes(first[1], last), faults)
    after = last if last is not None else None if first is None else first[1]
    before = first[1] if first is not None and last is not None and changed is not None else None
    return RunPage(
        name=run_dir.name,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s)),
        facts=facts(status, series, report, read_best(run_dir), _num_steps(status, config)),
        settings=[] if config is None else settings(config),
        missing=[*missing(status, series, report, config), *faults],
        figures=step_figures(series, config),
        sources=source_rows(series),
        findings=series.findings,
        report=report,
        in_plain_words=_in_plain_words(series, report),
        policies=None if report is None else policies_figure(report),
        databases=[] if after is None else database_rows(before, after, NUM_RESAMPLES),
        databases_note=_databases_note(
            None if first is None else first[0], last, WARM_START if config is None else start_row(config)
        ),
        changes=changed,
        rollouts=_rollouts(config, changed, sample),
    )


def _in_plain_words(series: StepSeries, report: EvaluationReport | None) -> list[str]:
    nothing_learned = all_zero(series.column("reward_mean"), series.column("zero_variance_share"))
    return [*([] if report is None else report.in_plain_words()), *filter(None, [nothing_learned])]


def _read_report(run_dir: Path, faults: list[str]) -> EvaluationReport | None:
    try:
        return read_report(run_dir)
    except ValueError:
        faults.append(f"{REPORT_FILE} can't be read: was it written by another version?")
        return None


def _num_steps(status: RunStatus | None, config: RunConfig | None) -> int | None:
    if status is not None and status.num_steps:
        return status.num_steps
    return None if config is None else config.run.known_num_steps


def _series(run_dir: Path, faults: list[str]) -> StepSeries:
    path = run_dir / METRICS_FILE
    try:
        return parse_metrics(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "")
    except OSError as fault:
        faults.append(f"{METRICS_FILE} can't be read ({fault.strerror}).")
        return parse_metrics("")


def _evaluations(run_dir: Path, faults: list[str]) -> tuple[tuple[str, Evaluation] | None, Evaluation | None]:
    """Return the first evaluation with its name, and the trained policy's."""
    found = {name: _evaluation(run_dir, name, faults) for name in (*FIRST_EVALUATIONS, TRAINED)}
    first = next(((name, one) for name in FIRST_EVALUATIONS if (one := found[name]) is not None), None)
    return first, found[TRAINED]


def _evaluation(run_dir: Path, name: str, faults: list[str]) -> Evaluation | None:
    path = run_dir / EVALUATIONS_FOLDER / name / EVALUATION_FILE
    return _or_fault(lambda: read_evaluation(path), faults) if path.is_file() else None


def _databases_note(first: str | None, last: Evaluation | None, start: str) -> str:
    names = {"start": f"the {start}", "base_model": "the base model"}
    if last is None and first is None:
        return "The run's folder has no evaluation by question."
    if last is None:
        return f"Of {names[first or 'start']}: the trained policy was not evaluated."
    return f"Before: {names[first]}; after: the trained policy." if first else "Of the trained policy."


def _rollouts(config: RunConfig | None, changed: Changes | None, sample: SampledRollouts) -> Rollouts:
    questions = questions_of_run(config)
    shown = [
        ShownGroup(rows=one, rank=rank, question=questions.find(one.question_id, one.database_id, one.question))
        for one, rank in sample.groups
    ]
    sample_note = sample.note
    by_id: dict[str, Question] = {}
    if changed is not None:
        for one in (*changed.gained, *changed.lost):
            found = questions.find(one.question_id, one.database_id, one.text)
            by_id |= {} if found is None else {one.question_id: found}
    results = _results(config, questions, shown, changed, by_id)
    data = BrowserData(results.by_statement)
    data.add_groups(shown)
    if changed is not None:
        data.add_changes(changed, by_id)
    if questions.databases_dir is not None:
        data.add_schemas(schemas_of(questions.databases_dir, (one.rows.database_id for one in shown)))
    if data.num_left_out:
        sample_note += f" {data.num_left_out} of these groups are left out to keep the page small."
    return Rollouts(values=data.values(), sample_note=sample_note, results_note=_results_note(questions, results))


def _results(
    config: RunConfig | None,
    questions: RunQuestions,
    shown: Sequence[ShownGroup],
    changed: Changes | None,
    by_id: dict[str, Question],
) -> RunResults:
    if config is None or questions.databases_dir is None:
        return RunResults(by_statement={}, fault=questions.fault)
    statements = [] if changed is None else statements_of_changes(changed, by_id)
    statements += statements_of_groups(sorted(shown, key=lambda one: one.rank))
    return results_of(questions.databases_dir, config.reward, statements)


def _results_note(questions: RunQuestions, results: RunResults) -> str:
    if questions.databases_dir is None:
        return f"Golds, schemas and result rows are not shown, since the run's data is not at hand: {questions.fault}"
    note = (
        "Result rows are those of now: each SQL that had run in training was run again, read-only and under the "
        "run's limits, when this page was made. Text that reads as a number stands in quotes."
    )
    return f"{note} {results.fault}".strip()


def _or_fault(read: Callable[[], T], faults: list[str]) -> T | None:
    """Return what `read` returns, or add its sentence to the faults."""
    try:
        return read()
    except UserError as fault:
        faults.append(str(fault))
        return None
