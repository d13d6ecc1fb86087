"""`floe evaluate`: the report's table for the base model and any PEFT adapter."""

from __future__ import annotations

from pathlib import Path

from actors.data.question_sets import load_question_sets
from cluster.answers import Harness
from cluster.embedded_models import model_folder
from cluster.operations.question_budget import encoder_of_run, fitting_questions
from cluster.placement import check_resources, ray_session, start_reward_pool, start_rollout_pool, stored_adapter
from cluster.reports.evaluation_table import evaluation_report
from cluster.reports.progress import Progress, make_console
from configs.errors import UserError
from configs.schema import RunConfig


def evaluate(config: RunConfig, adapter: Path | None, split: str, as_json: bool) -> None:
    """Print the table on stdout, as text or as JSON; progress goes to stderr. Raises UserError for a bad adapter."""
    if adapter is not None and not adapter.is_dir():
        raise UserError(f"There is no adapter folder {adapter}: give one written by PEFT or floe.")
    progress = Progress(make_console(stderr=True))
    demo_dir = config.run.home_dir / "demo"
    progress.phase("set-up")
    sets = load_question_sets(config.data, demo_dir)
    model_dir = model_folder(config, demo_dir)
    encoder = encoder_of_run(config, model_dir, sets.databases_dir)
    questions = fitting_questions(sets, encoder, config, progress).split(split)[: config.evaluation.max_questions]
    with ray_session(config.cluster, namespace="floe-evaluate") as line:
        progress.note(line)
        check_resources(config)
        harness = Harness(
            config, encoder, start_rollout_pool(config, model_dir), start_reward_pool(config, sets.databases_dir)
        )
        temperature = config.evaluation.temperature
        policies = []
        if config.evaluation.include_base or adapter is None:
            progress.phase("evaluation of the base model")
            policies.append(harness.answers("base model", questions, None, temperature))
        if adapter is not None:
            progress.phase("evaluation of the adapter")
            harness.rollouts.install(stored_adapter(config, adapter))
            policies.append(harness.answers(adapter.name, questions, 0, temperature))
    report = evaluation_report(
        policies,
        num_resamples=config.evaluation.num_bootstrap,
        seed=config.run.seed,
        num_asked=len(questions),
        reference=policies[0].name,
    )
    if as_json:
        print(report.to_json(), end="")
    else:
        report.render(make_console())
