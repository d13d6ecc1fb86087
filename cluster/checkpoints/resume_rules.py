"""Rules for what may change between a checkpoint and the run that continues it: every key of the schema has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from floe.cluster.checkpoints.state import RunInputs, RunState
from floe.cluster.precision.resolved import with_saved_precision
from floe.cluster.preparation.clock import with_saved_clock
from floe.configs.errors import ResumeRefused
from floe.configs.files.complaints import dotted_keys, fields_of, shown
from floe.configs.schema import RunConfig
from floe.configs.sections.resume_rule import Rule
from floe.configs.sections.reward_sections import AUTO_CLOCK

RULE_OF = {
    f"{section}.{field}": rule
    for section in RunConfig.model_fields
    for field, info in fields_of(section).items()
    for rule in info.metadata
    if isinstance(rule, Rule)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    key: str  # `section.field`
    before: Any
    after: Any
    rule: Rule

    @property
    def is_refused(self) -> bool:
        if self.rule is Rule.STEPS:  # a run by steps and one by epochs cut the questions into steps differently
            return self.before is None or self.after is None or self.after < self.before
        return self.rule is Rule.ANOTHER_RUN

    def __str__(self) -> str:
        return f"{self.key} ({shown(self.before)} -> {shown(self.after)})"


def changed_keys(saved: Mapping[str, Mapping[str, Any]], given: RunConfig) -> list[KeyChange]:
    """Return the changed keys in the schema's order.

    A key that the checkpoint lacks has its default there; one that no longer exists is refused. A precision or a clock
    that is left open is the checkpoint's.
    """
    given = with_saved_decisions(given, saved)
    defaults = _flat(RunConfig().model_dump(mode="json"))
    after = _flat(given.model_dump(mode="json"))
    before = defaults | _flat(saved)
    if "rollout.dtype" not in _flat(saved):  # written by a version whose engine computed in the learner's type
        before["rollout.dtype"] = before["model.dtype"]
    if _kept_gold(saved):
        before["prompt.trim_keeps_gold"] = True
    if before["reward.clock"] == AUTO_CLOCK:  # written by a version without a clock; the first resume decides it
        before["reward.clock"] = after["reward.clock"]
    if before["run.num_epochs"] is not None and after["run.num_epochs"] is not None:
        before["run.num_steps"] = after["run.num_steps"]  # which follow from the epochs
    gone = [key for key in before if key not in after]
    return [
        KeyChange(key=key, before=before[key], after=after.get(key), rule=RULE_OF.get(key, Rule.ANOTHER_RUN))
        for key in (*dotted_keys(), *gone)
        if before[key] != after.get(key)
    ]


def with_saved_decisions(config: RunConfig, saved: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Return the configuration with what a checkpoint's run has decided: precision, clock, and how prompts are trimmed.

    Runs of versions without `prompt.trim_keeps_gold` kept the golds' columns, and go on so.
    """
    config = with_saved_clock(with_saved_precision(config, saved), saved)
    if not _kept_gold(saved):
        return config
    return config.model_copy(update={"prompt": config.prompt.model_copy(update={"trim_keeps_gold": True})})


def _kept_gold(saved: Mapping[str, Mapping[str, Any]]) -> bool:
    return "trim_keeps_gold" not in saved.get("prompt", {})


def check_resume(saved: Mapping[str, Mapping[str, Any]], given: RunConfig) -> list[str]:
    """Return a line for each key that changed and may. Raises ResumeRefused naming all those that may not."""
    changes = changed_keys(saved, given)
    refused = [change for change in changes if change.is_refused]
    if refused:
        raise ResumeRefused(
            f"The run can't go on with {', '.join(map(str, refused))}: that would be another run; leave "
            f"{'them' if len(refused) > 1 else 'it'} as in the checkpoint, or start anew without --resume."
        )
    return [f"{change}: {change.rule.value}" for change in changes]


def check_inputs(state: RunState, found: RunInputs, *, takes_changed_plugins: bool = False) -> list[str]:
    """Return a line where the checkpoint can't tell, or where plug-ins have changed and may.

    Raises ResumeRefused naming every other input that has changed.
    """
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
    has_other_plugins = saved.plugins != found.plugins
    if has_other_plugins and not takes_changed_plugins:
        changed.append("other code of its plug-ins")
    if found.initial_adapter not in (None, saved.initial_adapter):
        changed.append("other weights of its initial adapter")
    if changed:
        go_on = ", or give run.takes_changed_plugins=true to go on with the new code" if has_other_plugins else ""
        raise ResumeRefused(
            f"The run can't go on with {' and '.join(changed)} than those of its checkpoint of step {state.step}: that "
            f"would be another run; put the files of its beginning back, or start anew without --resume{go_on}."
        )
    if has_other_plugins:
        return [f"the code of its plug-ins has changed: the steps after {state.step} are made with the new code"]
    return []


def with_saved_adapter(found: RunInputs, state: RunState) -> RunInputs:
    """Return the inputs with the checkpoint's digest of an initial adapter that can't be looked at any more."""
    if found.initial_adapter is not None or state.inputs is None:
        return found
    return replace(found, initial_adapter=state.inputs.initial_adapter)


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
