"""Names of everything in a run's folder, relative to it."""

from __future__ import annotations

CONFIG_FILE = "config.yaml"
QUESTIONS_FILE = "questions.json"  # questions that a caller of floe.train gave as objects
LOCK_FILE = "run.lock"
STATUS_FILE = "status.json"
PLAN_FILE = "time_plan.json"
MARKS_FILE = "time_marks.jsonl"
METRICS_FILE = "metrics.jsonl"
ROLLOUTS_FILE = "rollouts.sqlite"
TRACES_FILE, TRACE_TABLE = "traces.jsonl", "traces.json"
TRACKERS_FILE = "trackers.json"
CHECKPOINTS = "checkpoints"
BEST_POLICY = "best_policy"  # learner's state at the version that a roll-back goes to
ADAPTERS = "adapters"
START_ADAPTER, LATEST_ADAPTER, BEST_ADAPTER = "adapters/start", "adapters/latest", "adapters/best"
BEST_RESULT = "adapters/best.json"
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
# Names in each folder of an evaluation.
EVALUATION_FILE = "evaluation.json"
POLICY_FILE = "policy.json"  # the row of the table
