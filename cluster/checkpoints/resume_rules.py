"""Rules for what may change between a checkpoint and the run that continues it: every key of the schema has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from floe.cluster.checkpoints.state import RunInputs, RunState
from floe.cluster.precision.resolved import with_saved_precision
from floe.cluster.preparation.clock import with_saved_clock
from floe.configs.errors import UserError
from floe.configs.files.complaints import dotted_keys, shown
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import AUTO_CLOCK


class Rule(Enum):
    ANOTHER_RUN = "would make it another run"
    MAY_CHANGE_BITS = "may change results in the last bits"
    STEPS = "the learning rate's schedule spans the new number from here on"
    FREE = "changes no result"


RULES: dict[Rule, dict[str, str]] = {  # by section
    Rule.ANOTHER_RUN: {
        "run": "seed",
        "model": "path dtype max_context_tokens",
        "data": (
            "source prepared questions databases verification held_out_share filter_by_pass_rate sampler "
            "max_train_questions"
        ),
        "prompt": "style example_values descriptions retrieved_values evidence",
        "rollout": "group_size questions_per_step temperature max_new_tokens max_staleness dtype",
        "reward": (
            "design arctic_format_floor sql_r1_variant reasoning_execution_weight reasoning_judge_weight "
            "reasoning_syntax_weight reasoning_schema_weight reasoning_ngram_weight reasoning_format_weight "
            "reasoning_partial_terms judge_model graph_network graph_outcome_weight graph_stepwise_weight "
            "graph_stepwise_variant "
            "semantics suite empty_gold empty_gold_weight time_limit_s max_rows max_result_bytes "
            "max_memory_bytes max_cell_bytes max_sql_bytes max_expression_depth max_compound_selects "
            "max_like_pattern_bytes float_tolerance clock design_time_limit_s"
        ),
        "lora": "rank alpha dropout target_modules",
        "learner": (
            "num_ranks learning_rate adam_betas weight_decay max_grad_norm warmup_share schedule "
            "min_learning_rate_share zero_stage offload_optimizer updates_per_batch"
        ),
        "algorithm": (
            "loss advantage_scale drop_groups_without_match max_refill_rounds clip_low clip_high loss_aggregation "
            "kl_coefficient importance importance_cap overlong overlong_buffer_tokens"
        ),
        "warm_start": (
            "enabled seed learning_rate lora_dropout batch_questions max_epochs evals_per_epoch patience "
            "min_improvement max_train_questions max_held_back_questions"
        ),
    },
    Rule.MAY_CHANGE_BITS: {
        # Keys that decide how sequences fall into batches, and what computes them.
        "rollout": "num_actors kv_cache_gib gpu_memory_share max_num_seqs num_gpus num_threads",
        "learner": "gradient_checkpointing max_pack_tokens num_gpus num_threads",
    },
    Rule.STEPS: {"run": "num_steps"},
    Rule.FREE: {
        "run": (
            "name home max_dropped_share checkpoint_every_steps keep_checkpoints retries stop_within_s "
            "max_rollout_log_bytes wandb_project mlflow_uri max_generated_tokens"
        ),
        "data": "max_eval_questions",
        "rollout": "adapter_transport num_cpus stuck_after_s",
        "reward": (
            "num_workers num_cpus stuck_after_s judge_url judge_key_variable judge_time_limit_s judge_num_retries "
            "judge_num_parallel judge_max_cached"
        ),
        "learner": "num_cpus",
        "evaluation": (
            "enabled split num_samples temperature max_questions include_base include_entropy_control num_bootstrap "
            "num_timings every_steps num_interim_questions"
        ),
        "health": (
            "mismatch_warn_nats mismatch_stop_nats largest_mismatch_warn_nats largest_mismatch_stop_nats "
            "sample_size_warn_share sample_size_stop_share"
        ),
        "cluster": "address dashboard_port colocation start_timeout_s step_timeout_s min_free_memory_gib",
    },
}
RULE_OF = {
    f"{section}.{field}": rule
    for rule, sections in RULES.items()
    for section, fields in sections.items()
    for field in fields.split()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    key: str  # `section.field`
    before: Any
    after: Any
    rule: Rule

    @property
    def is_refused(self) -> bool:
        return self.rule is Rule.ANOTHER_RUN or (self.rule is Rule.STEPS and self.after < self.before)

    def __str__(self) -> str:
        return f"{self.key} ({shown(self.before)} -> {shown(self.after)})"


def changed_keys(saved: Mapping[str, Mapping[str, Any]], given: RunConfig) -> list[KeyChange]:
    """Return the changed keys in the schema's order.

    A key that the checkpoint lacks has its default there; one that no longer exists is refused. A precision or a clock
    that is left open is the checkpoint's.
    """
    given = with_saved_clock(with_saved_precision(given, saved), saved)
    defaults = _flat(RunConfig().model_dump(mode="json"))
    after = _flat(given.model_dump(mode="json"))
    before = defaults | _flat(saved)
    if "rollout.dtype" not in _flat(saved):  # written by a version whose engine computed in the learner's type
        before["rollout.dtype"] = before["model.dtype"]
    if before["reward.clock"] == AUTO_CLOCK:  # written by a version without a clock; the first resume decides it
        before["reward.clock"] = after["reward.clock"]
    gone = [key for key in before if key not in after]
    return [
        KeyChange(key=key, before=before[key], after=after.get(key), rule=RULE_OF.get(key, Rule.ANOTHER_RUN))
        for key in (*dotted_keys(), *gone)
        if before[key] != after.get(key)
    ]


def check_resume(saved: Mapping[str, Mapping[str, Any]], given: RunConfig) -> list[str]:
    """Return a line for each key that changed and may. Raises UserError naming all those that may not."""
    changes = changed_keys(saved, given)
    refused = [change for change in changes if change.is_refused]
    if refused:
        raise UserError(
            f"The run can't go on with {', '.join(map(str, refused))}: that would be another run; leave "
            f"{'them' if len(refused) > 1 else 'it'} as in the checkpoint, or start anew without --resume."
        )
    return [f"{change}: {change.rule.value}" for change in changes]


def check_inputs(state: RunState, found: RunInputs) -> list[str]:
    """Return a line where the checkpoint can't tell. Raises UserError naming every input that has changed."""
    saved = state.inputs
    if saved is None:
        return [
            "the checkpoint is of a version that kept no digests: whether data and model are the same is not checked"
        ]
    changed = []
    if saved.questions != found.questions:
        changed.append(f"other training questions ({saved.num_questions:,} then, {found.num_questions:,} now)")
    if saved.databases != found.databases:
        changed.append("other contents of its databases")
    if saved.model != found.model:
        changed.append("other weights of its base model")
    if changed:
        raise UserError(
            f"The run can't go on with {' and '.join(changed)} than those of its checkpoint of step {state.step}: that "
            "would be another run; put the files of its beginning back, or start anew without --resume."
        )
    return []


def changed_libraries(saved: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Return a warning for each library whose version differs from the checkpoint's."""
    return [
        f"{name} was {saved.get(name, 'absent')} and is {installed.get(name, 'absent')} now: results may differ from "
        "those of an undisturbed run"
        for name in sorted({*saved, *installed})
        if saved.get(name) != installed.get(name)
    ]


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{field}": value for section, fields in sections.items() for field, value in fields.items()}
