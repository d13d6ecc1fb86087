"""The README.md of an exported model or adapter: its origin, its results, its use (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from floe.cluster.evaluation.before_after_table import EvaluationReport, percent, start_row
from floe.cluster.evaluation.intervals import Interval
from floe.cluster.run_folder.file_names import ADAPTERS
from floe.configs.schema import RunConfig

Which = Literal["best", "latest", "start"]
Kind = Literal["merged", "adapter"]

NOT_STATED = "not stated"
GRPO = "GRPO"
SECTIONS = ("model", "prompt", "rollout", "reward", "lora", "learner", "algorithm", "warm_start", "evaluation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """The base's licence, as its folder states it; all None where it does not.

    `identifier` is the card's own (such as `apache-2.0`, or `other` with a name); `title` is a licence file's first
    line.
    """

    identifier: str | None = None
    name: str | None = None
    link: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Result of the best adapter in the evaluation that chose it."""

    greedy: float
    num_questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Facts for the card. `version` counts GRPO steps, None where it is not known. `data` is one sentence each."""

    kind: Kind
    title: str
    base: str  # name in the configuration; of a local folder the last part
    is_on_hub: bool  # whether `base` is a hub's name
    which: Which
    version: int | None
    selection: Selection | None  # selection of the best adapter
    config: RunConfig
    licence: Licence
    data: Sequence[str]
    report: EvaluationReport | None  # the run's before/after table
    floe_version: str


def model_card(facts: CardFacts) -> str:
    """Return Markdown with a YAML head, as model hubs read it. Local folders are named by their last part alone."""
    what = "the merged model" if facts.kind == "merged" else "a LoRA adapter (PEFT)"
    parts = [
        f"# {_line(facts.title)}",
        f"This is {what} of a run of floe {facts.floe_version}, which post-trains language models to write SQL by "
        f"running the SQL (GRPO). Base: `{facts.base}`. {_beginning(facts.config)}{_origin(facts)}",
        "## Use",
        _use(facts),
        "## Data",
        "\n".join(f"- {_line(sentence)}" for sentence in facts.data),
        "## Accuracy",
        _accuracy(facts),
        "## Licence",
        _licence_text(facts.licence),
        "## Configuration",
        _fenced(yaml.safe_dump(shown_configuration(facts.config, facts.base), sort_keys=False, allow_unicode=True)),
    ]
    head = yaml.safe_dump(_head(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def shown_configuration(config: RunConfig, base: str) -> dict[str, Any]:
    """Return the configuration that made the model; folders and files by their last part."""
    dumped = config.model_dump()
    shown = {section: _without_folders(dumped[section]) for section in SECTIONS}
    shown["model"]["path"] = base
    data = _without_folders(dumped["data"])
    run = {name: dumped["run"][name] for name in ("name", "seed", "num_steps")}
    if config.run.num_epochs is not None:
        run["num_epochs"] = config.run.num_epochs
    return {"run": run, "data": data, **shown}


def _without_folders(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in section.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):  # arguments of a plug-in
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        return Path(value).name
    return list(value) if isinstance(value, tuple) else value


def _head(facts: CardFacts) -> dict[str, Any]:
    head: dict[str, Any] = {}
    licence = facts.licence
    given = {"license": licence.identifier, "license_name": licence.name, "license_link": licence.link}
    head |= {name: value for name, value in given.items() if value is not None}
    if facts.is_on_hub:
        head["base_model"] = facts.base
    head["library_name"] = "transformers" if facts.kind == "merged" else "peft"
    head["pipeline_tag"] = "text-generation"
    head["tags"] = ["text-to-sql", "sql", "grpo", "floe", *(["lora"] if facts.kind == "adapter" else [])]
    return head


def _beginning(config: RunConfig) -> str:
    name = config.lora.initial_adapter
    return "" if name is None else f"Training started from the adapter `{shown_name(name)}`. "


def shown_name(name: str) -> str:
    """Return the value of `lora.initial_adapter` without folders of this machine; an adapter of a run with the run."""
    path = Path(name)
    if not path.is_absolute():
        return name
    return "/".join(path.parts[-3:]) if path.parent.name == ADAPTERS else path.name


def _origin(facts: CardFacts) -> str:
    config = facts.config
    if config.run.num_steps == 0:
        return "The adapter is that of the supervised stage alone, without a step of GRPO."
    after = "after a number of GRPO steps that is not known" if facts.version is None else f"after {facts.version} of "
    if facts.version is not None:
        after += f"{config.run.num_steps} GRPO steps"
    if facts.which == "start":
        return f"The adapter is the one before the first GRPO step (the {start_row(config)})."
    if facts.which == "latest":
        return f"The adapter is the latest, {after}."
    chosen = f"The adapter is the best of the evaluations during training, {after}"
    if facts.selection is None:
        return f"{chosen}."
    return (
        f"{chosen}: {100 * facts.selection.greedy:.1f} % of {facts.selection.num_questions} held-back questions right. "
        "That number chose it among several on one sample, so it is too high."
    )


def _use(facts: CardFacts) -> str:
    config = facts.config
    prompt = (
        f"The prompt is the one of training: style `{config.prompt.style}`, at most {config.max_prompt_tokens} tokens; "
        f"`floe prompt` prints it. Completions have at most {config.rollout.max_new_tokens} tokens."
    )
    if facts.kind == "merged":
        return (
            "Weights are `W + alpha / rank * B @ A`, computed in float32 and rounded once to bfloat16. The folder "
            "loads with transformers and vLLM as any model does.\n\n" + prompt
        )
    lora = config.lora
    return (
        f"Rank {lora.rank}, alpha {lora.alpha}, on {', '.join(lora.target_modules)}. It loads with "
        "`peft.PeftModel.from_pretrained` on the base, and as a LoRA of vLLM.\n\n" + prompt
    )


def _accuracy(facts: CardFacts) -> str:
    report = facts.report
    if report is None and facts.config.run.num_steps == 0:
        return "The run's folder has no before/after table: a run of the supervised stage alone is not evaluated."
    if report is None:
        return "The run's folder has no before/after table: the run did not finish, or was not evaluated."
    split = facts.config.evaluation.split
    lines = [
        f"Execution accuracy in % with 95 % bootstrap interval over {report.num_questions} questions of the split "
        f"`{split}`, judged by `{facts.config.semantics_in_words}` semantics; {report.num_left_out} left out without a "
        "verdict.",
        "",
        f"| policy | temperature | greedy | mean of {report.num_samples} | pass@{report.num_samples} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in report.rows:
        cells = [row.name, f"{row.temperature:.2f}", *map(_percent, (row.greedy, row.sampled, row.pass_at_n))]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    for line in report.differences:
        greedy, sampled = _percent(line.greedy, "+"), _percent(line.sampled, "+")
        lines += ["", f"{_line(line.name)} to {_line(line.to)}, paired, in points: greedy {greedy}, "
                  f"mean of {report.num_samples} {sampled}."]  # fmt: skip
    return "\n".join([*lines, "", _whose_row(facts)])


def _whose_row(facts: CardFacts) -> str:
    """Say which row describes the folder's adapter: it never shows another adapter's numbers."""
    as_it_was = ", before it was merged" if facts.kind == "merged" else ""
    if facts.which == "start":
        return f"The row `{start_row(facts.config)}` is about what this folder holds{as_it_was}."
    if facts.version == facts.config.run.num_steps:
        return f"The row `{GRPO}` is about what this folder holds{as_it_was}."
    return f"The row `{GRPO}` is about the adapter after the last step, not known to be what this folder holds."


def _licence_text(licence: Licence) -> str:
    if licence.identifier is None and licence.title is None:
        return f"Of the base: {NOT_STATED}."
    stated = [text for text in (licence.identifier, licence.name, licence.link) if text is not None]
    if licence.title is not None:
        stated.append(f'its licence file begins with "{licence.title}"')
    return f"Of the base: {', '.join(map(_line, stated))}. It holds for what is derived from the base as it says."


def _percent(interval: Interval | None, sign: str = "-") -> str:
    return percent(interval, sign).plain


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text}{fence}"
