"""`floe plan`: what a run holds in memory, whether it fits, what to change when it doesn't, and how long it takes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from floe.cluster.machine.gpus import read_gpus
from floe.cluster.memory_plan import MemoryPlan, ModelShape, plan_memory
from floe.cluster.memory_plan.card_table import CardRow, card_rows, card_table
from floe.cluster.memory_plan.measured import read_measured
from floe.cluster.memory_plan.of_machine import Card, basis_of, budget_bytes, card_of, host_total_bytes
from floe.cluster.memory_plan.overheads import Overheads
from floe.cluster.memory_plan.phases import Device, Phase, PlacementPlan, Role
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.memory_plan.verdict import GIB, verdict
from floe.cluster.operations.time_planning import ONLY_CPU, needs_gpus, plan_before, time_on_card
from floe.cluster.precision.resolved import with_precision
from floe.cluster.terminal.progress import make_console
from floe.cluster.time_plan.card_time import CardTime
from floe.cluster.time_plan.named_cards import NamedCard, config_for, named_card
from floe.cluster.time_plan.plan import TimePlan
from floe.cluster.time_plan.sentences import plan_sentence, shorter_way
from floe.configs.errors import EXIT_CODE_DOES_NOT_FIT, UserError
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import TAKE_TURNS

DEVICES = {
    Device.SHARED_GPU: "one GPU for engine and learner",
    Device.OWN_GPUS: "a GPU each for engine and learner",
    Device.HOST: "no GPU: the host's memory",
}


def plan(config: RunConfig, gpu_memory: str | None, as_json: bool, device: str | None = None) -> int:
    """Print the plan, as tables or as JSON; return the exit code.

    `device` names a card that is not here. Raises UserError for an amount that can't be read and an unknown card.
    """
    named = None if device is None else _named(device, gpu_memory)
    if named is not None:
        config = config_for(named, config)
    shape = shape_of(config)
    decided = with_precision(config, lambda: shape)
    config = decided.config
    card = card_of(config, read_gpus()) if named is None else _card_named(config, named)
    basis = basis_of(config, card.overheads, host_total_bytes(config, card) if named is None else None)
    budget = budget_bytes(config, gpu_memory) if named is None else card.usable_bytes
    made = plan_memory(config, shape, budget, basis)
    card_name = "of the size given" if gpu_memory else f"{'an assumed card of ' if card.is_assumed else ''}{card.name}"
    rows = [] if made.device is Device.HOST else list(card_rows(config, shape, basis))
    planned = time_of(config) if named is None else _time_named(config, named, made)
    if as_json:
        time = _time_record(planned)
        cards = {"card": card_name, "cards": [asdict(row) for row in rows]} if rows else {}
        start = {"initial_adapter": config.lora.initial_adapter, "kl_reference": config.algorithm.kl_reference}
        print(json.dumps(record(made, config) | start | cards | {"precision": decided.line, "time": time}, indent=2))
    else:
        _render(made, config, decided.line, planned, rows, card_name)
    return 0 if made.chosen is not None else EXIT_CODE_DOES_NOT_FIT


def _named(device: str, gpu_memory: str | None) -> NamedCard:
    if gpu_memory is not None:
        raise UserError("--device and --gpu-memory both say what the card is: give one of them.")
    return named_card(device)


def _card_named(config: RunConfig, named: NamedCard) -> Card:
    """Return a card that is not here, with what was measured on one like it."""
    measured = (read_measured(config.run.home_dir, name) for name in named.driver_names)
    overheads = next((one for one in measured if one is not None), Overheads())
    usable_bytes = overheads.usable_bytes or named.usable_bytes
    return Card(name=named.name, usable_bytes=usable_bytes, is_assumed=False, overheads=overheads)


def _time_named(config: RunConfig, named: NamedCard, made: MemoryPlan) -> CardTime:
    return time_on_card(config, named, takes_turns=made.colocation in TAKE_TURNS)


def _time_record(planned: TimePlan | CardTime | str) -> dict[str, Any]:
    if isinstance(planned, str):
        return {"unknown": planned}
    if isinstance(planned, TimePlan):
        return asdict(planned) | {"whole_s": planned.whole_s}
    plan = planned.plan
    rest = {"device": planned.card.key, "assumptions": list(planned.assumptions)}
    return asdict(plan) | {"step_s": plan.step_s, "whole_s": plan.whole_s} | rest


def time_of(config: RunConfig) -> TimePlan | str:
    """Return the plan of a run's time on this machine, or the sentence that says why there is none."""
    if needs_gpus(config):
        return ONLY_CPU
    try:
        return plan_before(config)
    except (UserError, OSError, ValueError) as fault:
        return f"the time is not known: {fault}"


def record(made: MemoryPlan, config: RunConfig) -> dict[str, Any]:
    """Return the record that `--json` prints: bytes and tokens throughout."""
    shape, engine_dtype = made.shape, config.rollout.dtype
    options = [
        {
            "colocation": str(option.colocation),
            "fits": option.fits,
            "peak_bytes": option.peak_bytes,
            "margin_bytes": option.margin_bytes,
            "host_bytes": option.host_bytes,
            "host_limit_bytes": option.host_limit_bytes,
            "pack_tokens": option.pack_tokens,
            "max_pack_tokens": option.max_pack_tokens,
            "kv_cache_bytes": option.kv_bytes,
            "min_kv_cache_bytes": option.min_kv_bytes,
            "max_kv_cache_bytes": option.max_kv_bytes,
            "phases": [
                {"phase": str(phase.phase), "num_bytes": phase.num_bytes, "items": [asdict(one) for one in phase.items]}
                for phase in option.phases
            ],
        }
        for option in made.options
    ]
    return {
        "model": {
            "name": shape.name,
            "num_parameters": shape.num_parameters,
            "num_adapter_parameters": _num_adapter_parameters(shape, config),
            "weight_bytes": shape.weight_bytes(config.model.dtype),
            "kv_bytes_per_token": shape.kv_bytes_per_token(engine_dtype),
            "logits_bytes_per_token": shape.logits_bytes_per_token,
        },
        "device": str(made.device),
        "budget_bytes": made.budget_bytes,
        "is_counted": made.work.is_measured,
        "overheads": None if made.device is Device.HOST else asdict(made.overheads),
        "colocation": None if made.colocation is None else str(made.colocation),
        "options": options,
        "remedy": None if made.remedy is None else asdict(made.remedy),
        "verdict": verdict(made),
    }


def _time_lines(planned: TimePlan | CardTime | str) -> list[str]:
    if isinstance(planned, str):
        return [f"Time: {planned}"]
    if isinstance(planned, TimePlan):
        return [f"Time: {line}" for line in (plan_sentence(planned), shorter_way(planned)) if line]
    assumed = [f"  assumed: {one}." for one in planned.assumptions]
    return [f"Time on {planned.card.name}: {planned.sentence}", *assumed]


def _start_sentence(config: RunConfig) -> str:
    further = ", which a warm start trains further first" if config.warm_start.enabled else ", without a warm start"
    name, coefficient = config.lora.initial_adapter, config.algorithm.kl_coefficient
    kept = "a frozen copy of the adapter" if config.keeps_reference else "the base model"
    reference = f"; the reference of the KL term is {kept}" if coefficient > 0 else ""
    return f"GRPO starts from the adapter {name}{further}{reference}."


def _num_adapter_parameters(shape: ModelShape, config: RunConfig) -> int:
    return shape.num_adapter_parameters(config.lora.rank, config.lora.target_modules)


def _render(
    made: MemoryPlan,
    config: RunConfig,
    precision: str,
    planned: TimePlan | CardTime | str,
    rows: list[CardRow],
    card_name: str,
) -> None:
    console = make_console()
    shape = made.shape
    adapter = _num_adapter_parameters(shape, config)
    console.print(
        f"{shape.name}, {config.model.dtype}: {shape.num_parameters:,} parameters; adapter of rank {config.lora.rank}: "
        f"{adapter:,} ({adapter / shape.num_parameters:.3%}); KV cache: "
        f"{shape.kv_bytes_per_token(config.rollout.dtype):,} bytes a token; "
        f"logits in float32: {shape.logits_bytes_per_token:,}."
    )
    console.print(precision, soft_wrap=True)
    if config.lora.initial_adapter is not None:
        console.print(_start_sentence(config), soft_wrap=True)
    whose = "" if made.device is Device.HOST else f", {card_name}"
    console.print(f"{DEVICES[made.device]}, {made.budget_bytes / GIB:.2f} GiB{whose}")
    if made.device is not Device.HOST:
        work = "counted on its own code without memory" if made.work.is_measured else "a bound by formulae"
        console.print(f"The learner's work is {work}; {made.overheads.sentence}.", soft_wrap=True)
    console.print()
    console.print(_parts_table(made.chosen or made.options[-1]))
    console.print(_options_table(made))
    if rows:
        console.print(card_table(rows))
    for line in _time_lines(planned):
        console.print(line, soft_wrap=True)
    console.print(verdict(made), soft_wrap=True)


def _parts_table(option: PlacementPlan) -> Table:
    table = Table(f"{option.colocation}, GiB", box=box.SIMPLE_HEAD, pad_edge=False)
    phases = [planned.phase for planned in option.phases]
    for phase in phases:
        table.add_column(str(phase), justify="right")
    amounts: dict[tuple[Role, str], dict[Phase, int]] = {}
    for planned in option.phases:
        for item in planned.items:
            amounts.setdefault((item.role, item.name), {})[planned.phase] = item.num_bytes
    for role in Role:
        for (of, name), by_phase in amounts.items():
            if of is role:
                table.add_row(f"{role}: {name}", *(_gib(by_phase.get(phase)) for phase in phases))
    table.add_section()
    table.add_row("together", *(_gib(planned.num_bytes) for planned in option.phases))
    return table


def _options_table(made: MemoryPlan) -> Table:
    headings = ("placement, GiB", "peak", "fits", "KV cache", "at most", "pack, tokens", "at most", "host")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for option in made.options:
        table.add_row(
            str(option.colocation),
            _gib(option.peak_bytes),
            "yes" if option.fits else "no",
            _gib(option.kv_bytes),
            _gib(option.max_kv_bytes),
            f"{option.pack_tokens:,}",
            f"{option.max_pack_tokens:,}",
            _gib(option.host_bytes),
        )
    return table


def _gib(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / GIB:.2f}"
