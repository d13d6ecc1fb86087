"""`floe bench dropout`: how far a dropout moves the ratio, on a run's adapters and the candidates that it logged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.messages import Question
from floe.cluster.models.model_folder import model_folder
from floe.cluster.questions.fitting import encoder_of_run
from floe.cluster.run_folder.file_names import LATEST_ADAPTER, ROLLOUTS_FILE, START_ADAPTER
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.terminal.progress import make_console
from floe.cluster.tracking.rollout_log import rewarded_groups
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from floe.learner.adapter.files import read_adapter
from floe.learner.family_plugin import family_of
from floe.learner.loss.kl_estimators import kl_k3
from floe.learner.packing.packs import Branch, PrefixGroup, make_packs
from floe.learner.policy.adapter_dropout import AdapterDropout
from floe.learner.policy.policy import POLICY, build_policy, packed_logprobs

NAMES = {START_ADAPTER: "before GRPO", LATEST_ADAPTER: "after GRPO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioSpread:
    """Probabilities of tokens with dropout over those without it, at the run's temperature."""

    adapter: str
    dropout: float
    num_tokens: int
    mean: float
    deviation: float
    first_percentile: float
    last_percentile: float  # the 99th
    clipped_share: float  # outside of [1 - clip_low, 1 + clip_high]
    kl: float  # mean k3 of the policy with dropout against itself without


def bench_dropout(run_dir: Path, dropout: float, num_groups: int, as_json: bool) -> None:
    """Print a row for each adapter of the run, as a table or as JSON.

    Raises UserError for a folder that is no run's, or of a run without adapters or candidates.
    """
    config = config_of_run(run_dir, ())
    with redirect_stdout(sys.stderr):
        rows = [_spread_of(config, run_dir, name, dropout, num_groups) for name in NAMES if (run_dir / name).is_dir()]
    if not rows:
        raise UserError(f"There is no adapter in {run_dir}: give the folder of a run that has made a step.")
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _render(rows)


def _spread_of(config: RunConfig, run_dir: Path, name: str, dropout: float, num_groups: int) -> RatioSpread:
    sets = sets_of_run(config)
    model_dir = model_folder(config, config.run.home_dir / "demo")
    encoder = encoder_of_run(config, model_dir, sets.databases_dir)
    groups = list(_logged_groups(run_dir / ROLLOUTS_FILE, sets.train, encoder))[-num_groups:]
    if not groups:
        raise UserError(
            f"There is no candidate with SQL in {run_dir / ROLLOUTS_FILE}: give the folder of a run that has some."
        )
    policy = build_policy(
        model_dir,
        config.model,
        config.lora,
        dropout=dropout,
        seed=config.run.seed,
        initial=read_adapter(run_dir / name, config.lora),
        with_reference=False,
        family=family_of(config.model, config.run.plugin_folder),
    )
    policy.train()
    with_and_without = _both_ways(policy, groups, config)
    return _row(NAMES[name], dropout, *with_and_without, config)


@torch.no_grad()
def _both_ways(policy: Any, groups: Sequence[PrefixGroup], config: RunConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities [S] of all scored tokens with dropout and without."""
    masks = AdapterDropout(policy, POLICY, config.run.seed)
    noisy, plain = [], []
    for number, pack in enumerate(make_packs(groups, config.learner.max_pack_tokens)):
        plain.append(packed_logprobs(policy, pack, config.rollout.temperature))
        with masks.drawn(0, 0, number):
            noisy.append(packed_logprobs(policy, pack, config.rollout.temperature))
    return torch.cat(noisy).double(), torch.cat(plain).double()


def _row(adapter: str, dropout: float, noisy: torch.Tensor, plain: torch.Tensor, config: RunConfig) -> RatioSpread:
    ratio, algorithm = (noisy - plain).exp(), config.algorithm
    is_clipped = (ratio < 1 - algorithm.clip_low) | (ratio > 1 + algorithm.clip_high)
    return RatioSpread(
        adapter=adapter,
        dropout=dropout,
        num_tokens=ratio.numel(),
        mean=ratio.mean().item(),
        deviation=ratio.std(correction=0).item(),
        first_percentile=ratio.quantile(0.01).item(),
        last_percentile=ratio.quantile(0.99).item(),
        clipped_share=is_clipped.double().mean().item(),
        kl=kl_k3(noisy, plain).mean().item(),
    )


def _logged_groups(log: Path, questions: Sequence[Question], encoder: PromptEncoder) -> Iterator[PrefixGroup]:
    """Yield the candidates with SQL of each logged group, as answers to their question's training prompt."""
    if not log.is_file():
        raise UserError(f"There is no {log}: give the folder of a run that has made a step.")
    by_name = {(one.question_id, one.database_id): one for one in questions}
    for rows in rewarded_groups(log):
        question = by_name.get((rows[0].question_id, rows[0].database_id))
        answers = [encoder.answer(row.sql) for row in rows if row.sql is not None]
        if question is not None and answers:
            branches = tuple(Branch(token_ids=answer, weight=0.0) for answer in answers)
            yield PrefixGroup(prefix_ids=encoder.training_prompt(question), branches=branches)


def _render(rows: Sequence[RatioSpread]) -> None:
    table = Table("adapter", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("dropout", "tokens", "mean ratio", "deviation", "1 %", "99 %", "clipped", "k3"):
        table.add_column(heading, justify="right")
    for row in rows:
        spread = row.mean, row.deviation, row.first_percentile, row.last_percentile
        table.add_row(
            row.adapter,
            f"{row.dropout:g}",
            f"{row.num_tokens:,}",
            *(f"{one:.4f}" for one in spread),
            f"{100 * row.clipped_share:.2f} %",
            f"{row.kl:.5f}",
        )
    make_console().print(table)
