"""An ablation's figures as two tables: what the policies got right, and what the rewards paid for."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.ablation.report import AblationReport, AblationRow
from floe.cluster.evaluation.before_after_table import percent

ALL_SEEDS = "all"
GOLD = "gold"  # among the constant policies the one that knows the answer


def render(report: AblationReport, console: Console) -> None:
    console.print(_accuracies(report))
    console.print(_rewards(report))
    if report.resolved_difference is not None:
        smallest = f"{100 * report.resolved_difference:.1f}"
        console.print(f"The intervals can't tell a difference to the first arm below {smallest} points from none.")
    if report.processors:
        console.print(f"Trained on {'; '.join(report.processors)}.", soft_wrap=True)


def _accuracies(report: AblationReport) -> Table:
    start = f"greedy {percent(report.start_greedy)}, mean of {report.num_samples} {percent(report.start_sampled)}"
    title = f"Execution accuracy in % with 95 % interval, {report.num_questions} held-back questions; start: {start}"
    table = _table(title)
    columns = ("seed", "steps", "tokens", "greedy", f"mean of {report.num_samples}", "to the start", "to its control")
    for name in (*columns, "to the first arm", "greedy, to the first"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(
            row.arm,
            ALL_SEEDS if row.seed is None else str(row.seed),
            f"{row.num_steps:.3g}",
            f"{row.generated_tokens:,.0f}",
            percent(row.greedy),
            percent(row.sampled),
            percent(row.gain, sign="+"),
            percent(row.to_control, sign="+"),
            percent(row.to_first, sign="+"),
            percent(row.greedy_to_first, sign="+"),
        )
    table.caption = (
        "to the start, to its control, to the first arm: paired differences of the sampled accuracy, in points. "
        "control: the start, sampled at the temperature at which its mean entropy is the trained policy's."
    )
    return table


def _rewards(report: AblationReport) -> Table:
    table = _table("What the rewards pay for: first > last quarter of the steps, all seeds; shares in %")
    columns = ("reward", "gold earns", "constant earns", "right", "runs", "in form", "cut off", "tokens")
    for name in (*columns, "r", "wrong", "equal", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.summary_rows:
        first, last = row.first_steps, row.last_steps
        table.add_row(
            row.arm,
            f"{first.reward:.2f} > {last.reward:.2f}",
            *_constants(row),
            _shares(first.right_share, last.right_share),
            _shares(first.executes_share, last.executes_share),
            _shares(first.form_share, last.form_share),
            _shares(first.truncated_share, last.truncated_share),
            f"{first.mean_tokens:.1f} > {last.mean_tokens:.1f}",
            "-" if row.reward_correlation is None else f"{row.reward_correlation:.2f}",
            "-" if row.wrong_reward_share is None else f"{100 * row.wrong_reward_share:.1f}",
            f"{100 * row.equal_group_share:.0f}",
            f"{1000 * row.score_s:.2f}",
        )
    table.caption = (
        "reward: mean of a candidate. constant: the best of the policies that don't look at the question (floe bench "
        "hacking), under this reward. in form: one thought, one answer, a fenced query. r: correlation of reward and "
        "correctness. wrong: of the reward above 0, what wrong candidates earned. equal: groups with equal rewards. "
        "ms: of a score."
    )
    return table


def _table(title: str) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    table.pad_edge = False
    table.caption_justify = "left"
    table.add_column("arm", no_wrap=True)
    return table


def _constants(row: AblationRow) -> tuple[str, str]:
    """Return what the gold earns, and the best constant policy with its name."""
    others = {name: value for name, value in row.constant_rewards.items() if name != GOLD}
    gold = row.constant_rewards.get(GOLD)
    best = max(others, key=lambda name: others[name], default=None)
    return "-" if gold is None else f"{gold:.2f}", "-" if best is None else f"{others[best]:.2f} ({best})"


def _shares(first: float, last: float) -> str:
    return f"{100 * first:.0f} > {100 * last:.0f}"
