"""Everything that is on the page of a run, before it becomes a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.health.finding import HealthFinding
from floe.cluster.report_page.evaluation_views import Changes, DatabaseRow
from floe.cluster.report_page.figure_parts import Figure
from floe.cluster.report_page.overview import Fact
from floe.cluster.report_page.source_figures import SourceRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """Rollouts on the page: `values` for its script; the notes say what is shown and where result rows come from."""

    values: dict[str, Any]
    sample_note: str
    results_note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """The contents of a page. A part that is None or empty has its reason in `missing`."""

    name: str
    made: str  # time as text for a person
    facts: Sequence[Fact]
    settings: Sequence[Fact]
    missing: Sequence[str]
    figures: Sequence[Figure]
    report: EvaluationReport | None
    in_plain_words: Sequence[str]  # what can't be told from the table, or why nothing was learned; a line each
    policies: Figure | None
    databases: Sequence[DatabaseRow]
    databases_note: str  # says which two policies
    changes: Changes | None
    rollouts: Rollouts
    sources: Sequence[SourceRow] = ()  # of a mixture
    findings: Sequence[HealthFinding] = ()  # of the health guard
