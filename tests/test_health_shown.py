"""The places where findings are seen: the record, the trackers, the terminal, `floe status` and the report."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from floe.cluster.health.finding import HealthFinding, findings_of
from floe.cluster.operations.report import report
from floe.cluster.operations.status import status
from floe.cluster.report_page.collect import collect_page
from floe.cluster.report_page.document import document
from floe.cluster.run_folder.status import RunState
from floe.cluster.terminal.progress import Progress
from floe.cluster.terminal.run_view import view
from floe.cluster.tracking.metrics_log import MetricsLog
from floe.configs.sections.health_section import HealthAction
from tests.run_folders import metrics_record, run_folder, small_run, write_status
from tests.step_records import step_record
from tests.test_ray_metrics import Kept

TEXT = "90.0 % of the <i>completions</i> were cut in steps 1 to 2 (health.truncated_limit_share is 50 %): do something"
FOUND = HealthFinding(step=2, detector="truncation", text=TEXT, action=HealthAction.WARN)
BACK = HealthFinding(step=3, detector="kl_rising", text="the KL rose", action=HealthAction.ROLL_BACK)


def write_findings(folder: Path) -> None:
    lines = [metrics_record(step) for step in (1, 2, 3, 4)]
    lines[1]["health_findings"], lines[2]["health_findings"] = [FOUND.values()], [BACK.values(), FOUND.values()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_record_has_the_findings_and_the_trackers_their_number(tmp_path):
    sink = Kept()
    with MetricsLog(tmp_path, [sink]) as log:
        log.write(step_record(1))
        log.write(step_record(2), findings=[FOUND])
    plain, ill = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert "health_findings" not in plain and findings_of(ill) == [FOUND]
    assert [values["health_findings"] for _, values in sink.records] == [0, 1]
    assert "constant_reward_share" in plain and "empty_reward_share" in plain


@pytest.mark.parametrize(
    ("action", "said"),
    [("warn", "do something"), ("stop", "the run stops"), ("roll_back", "the run goes back to its best version")],
)
def test_the_terminal_says_it_in_a_line_and_the_view_keeps_the_last(action, said):
    console = Console(file=io.StringIO(), width=300)
    progress = Progress(console, 20)
    progress.finding(HealthFinding(step=2, detector="truncation", text=TEXT, action=HealthAction(action)))
    assert f"warning: step 2: {TEXT}" in console.file.getvalue() and said in console.file.getvalue()
    console.print(view(progress.watched()))
    assert f"health step 2: truncation ({action})" in console.file.getvalue()


def test_a_run_without_findings_has_no_row_for_them():
    console = Console(file=io.StringIO(), width=300)
    console.print(view(Progress(console, 20).watched()))
    assert "health" not in console.file.getvalue()


def test_status_prints_the_newest_findings_first(tmp_path, capsys):
    run = run_folder(tmp_path / "run")
    write_status(run, RunState.INTERRUPTED, 4)
    write_findings(run)
    status(run, as_json=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "health, step" in line]
    assert [line.split(":")[0].strip() for line in lines] == [
        "health, step 3 (roll_back)", "health, step 3 (warn)", "health, step 2 (warn)"
    ]  # fmt: skip
    status(run, as_json=True)
    found = json.loads(capsys.readouterr().out)["health_findings"]
    assert [(one["step"], one["detector"]) for one in found[:2]] == [(3, "kl_rising"), (3, "truncation")]


def test_the_report_lists_them_and_marks_their_steps_in_every_figure_over_steps(tmp_path):
    run = small_run(tmp_path / "run")
    write_findings(run)
    page = collect_page(run, 1_790_000_200.0)
    assert page.findings == (
        FOUND,
        BACK,
        HealthFinding(step=3, detector="truncation", text=TEXT, action=HealthAction.WARN),
    )
    drawn = [one for one in page.figures if one.plot is not None]
    assert drawn
    for figure in drawn:
        assert [shape["x0"] for shape in figure.plot["layout"]["shapes"]] == [2, 3], figure.name
    html = document(page)
    assert (
        "back to the best version" in html
        and "&lt;i&gt;completions" in html
        and "<i>completions" not in html.split("<script", 1)[0]
    )


def test_a_report_without_findings_says_so_and_marks_nothing(tmp_path):
    run = small_run(tmp_path / "run")
    report(run, tmp_path / "page.html", opens=False)
    page = collect_page(run, 1_790_000_200.0)
    assert "No finding of the health guard is recorded." in (tmp_path / "page.html").read_text()
    assert not any(one.plot["layout"].get("shapes") for one in page.figures if one.plot is not None)


def test_what_is_no_finding_in_a_damaged_record_is_left_out(tmp_path):
    run = small_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text(json.dumps(metrics_record(1, health_findings=[3, {"detector": "x"}])) + "\n")
    assert collect_page(run, 1_790_000_200.0).findings == ()
