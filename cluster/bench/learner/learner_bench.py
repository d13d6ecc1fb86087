"""`floe bench learner`: completion tokens trained per second, compared with unshared sequences and trl, interleaved."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig

from floe.cluster.bench import duration
from floe.cluster.bench.choice import EVERYTHING, Choice
from floe.cluster.bench.learner import learner_cases
from floe.cluster.bench.learner.learner_cases import Case, random_group
from floe.cluster.bench.learner.learner_figures import (
    SHARED,
    TRL,
    TRL_AS_SHIPPED,
    UNSHARED,
    Result,
    Tally,
    check_agreement,
    linear_fit,
    targets,
)
from floe.cluster.bench.learner.learner_report import Report
from floe.cluster.bench.learner.learner_ways import Way, packed_ways
from floe.cluster.bench.learner.matmul_limit import MatmulLimit, synchronise
from floe.cluster.bench.learner.peak_memory import peak_growth_gib
from floe.cluster.bench.learner.trl_way import configuration, trl_ways
from floe.cluster.machine.processor import processor_line
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.models.model_folder import model_folder
from floe.cluster.precision.resolved import with_precision
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.time_plan.update_flops import ModelSizes, update_flops, work_of
from floe.configs.schema import RunConfig
from floe.learner.packing.packs import Pack

MAX_TRL_SWEEP_SIZE = 16  # above this size trl's part of the sweep would take minutes and show nothing new
FIRST = Case(prompt_tokens=8, completion_tokens=4, group_size=2)


def bench_learner(config: RunConfig, as_json: bool, choice: Choice = EVERYTHING) -> None:
    """Print the tables, or JSON; progress goes to stderr. Raises RuntimeError when the ways' losses differ."""
    report = measured_learner(config, choice)
    if as_json:
        print(json.dumps(report.record(), indent=2))
    else:
        report.render()


def measured_learner(config: RunConfig, choice: Choice = EVERYTHING) -> Report:
    """Measure the chosen ways and shapes; progress goes to stderr. Raises RuntimeError when the ways' losses differ."""
    progress = Progress(make_console(stderr=True))
    config = with_precision(config, lambda: shape_of(config)).config
    shapes = choice.shapes or learner_cases.SHAPES
    sweep = () if choice.shapes else learner_cases.SWEEP
    with TemporaryDirectory(prefix="floe-bench-") as scratch, redirect_stdout(sys.stderr):  # DeepSpeed's messages
        bench = LearnerBench(config, choice, progress)
        progress.note(bench.notes[0])
        progress.phase(f"{duration.in_words(bench.planned_s((*shapes, *sweep)))} on this machine")
        bench.set_up(Path(scratch))
        results = {case: bench.measure(case) for case in dict.fromkeys((*shapes, *sweep))}
    found_shapes, found_sweep = tuple(results[case] for case in shapes), tuple(results[case] for case in sweep)
    fit = linear_fit(found_sweep) if found_sweep else None
    found_targets = tuple(targets(found_shapes, found_sweep, fit))
    return Report(notes=bench.notes, shapes=found_shapes, sweep=found_sweep, fit=fit, targets=found_targets)


class LearnerBench:
    """The ways, built once; each case then takes turns through them."""

    def __init__(self, config: RunConfig, choice: Choice, progress: Progress) -> None:
        self._config = config
        self._choice = choice
        self._progress = progress
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(config.learner.num_threads or torch.get_num_threads())
        self._model_dir = model_folder(config, config.run.home_dir / "demo")
        self._sizes = ModelSizes.of(AutoConfig.from_pretrained(self._model_dir), config.lora)
        self.notes: tuple[str, ...] = (processor_line(),)

    def planned_s(self, cases: Sequence[Case]) -> float:
        """Return the seconds that the cases will take, from a measurement of a second or two."""
        rate = duration.update_rate(self._sizes, getattr(torch, self._config.model.dtype), self._device)
        planned = ((case, self._names_for(case), self._num_rounds(case)) for case in dict.fromkeys(cases))
        return duration.learner_bench_s(self._sizes, rate, planned)

    def set_up(self, scratch_dir: Path) -> None:
        """Build the ways that are wanted."""
        config = self._config
        # trl first, because DeepSpeed's process group would make it train as one of several.
        wants_trl = self._choice.wants(TRL) or self._choice.wants(TRL_AS_SHIPPED)
        trl = trl_ways(config, self._model_dir, scratch_dir) if wants_trl else None
        self._shared, self._unshared = packed_ways(config, self._model_dir)
        self._ways: dict[str, Way] = {way.name: way for way in (self._shared, self._unshared, *(trl or ()))}
        for way in (self._shared, *(trl or ())):
            # The first update makes the optimiser's state, which does not belong to a case's memory.
            way.load(random_group(FIRST, self._sizes.vocabulary, config.run.seed))
            way.update()
        torch.set_num_threads(config.learner.num_threads or torch.get_num_threads())
        self.notes += (
            f"floe: {self._device}, {torch.get_num_threads()} threads, {config.model.dtype}, LoRA of rank "
            f"{config.lora.rank}, packs of up to {config.learner.max_pack_tokens} tokens, loss of CISPO without a "
            "reference, AdamW by DeepSpeed. Peak memory: of a micro-batch and the optimiser's step, beyond the models.",
        )
        if trl:
            self.notes += (configuration(config),)
        elif wants_trl:
            self.notes += ("trl is not installed (extra dev): its rows are left out.",)

    def measure(self, case: Case) -> Result:
        is_shape = case in (self._choice.shapes or learner_cases.SHAPES)
        group = random_group(case, self._sizes.vocabulary, self._config.run.seed)
        ways = [self._ways[name] for name in self._names_for(case) if name in self._ways]
        num_rounds = self._num_rounds(case)
        for way in dict.fromkeys((*ways, self._unshared)):  # whose operations are counted in any case
            way.load(group)
        self._progress.phase(f"{case.shape}, group of {case.group_size}, {num_rounds} rounds")
        gc.collect()
        tallies = {way.name: Tally(peak_gib=peak_growth_gib(way.warm_up, self._device)) for way in ways}
        packs = self._shared.packs()
        work = work_of(packs)
        result = Result(
            case=case,
            shared=work,
            shared_flops=update_flops(self._sizes, work),
            unshared_flops=update_flops(self._sizes, work_of(self._unshared.packs())),
            ways=tallies,
        )
        limit = self._limit(packs[0]) if is_shape else None
        for number in range(num_rounds):
            for way in ways if number % 2 == 0 else ways[::-1]:
                self._time(way, tallies[way.name])
            if limit is not None:
                result.limits_s.append(limit.update_s(work))
            check_agreement(result)
        for name, tally in tallies.items():
            self._progress.note(f"{name}: {tally.median_s:.2f} s")
        return result

    def _names_for(self, case: Case) -> list[str]:
        """Return the ways that a case is measured in: those asked for, or all that show something new."""
        if self._choice.ways:
            return [SHARED, *(way for way in self._choice.ways if way != SHARED)]
        names = [SHARED, UNSHARED]
        shapes = self._choice.shapes or learner_cases.SHAPES
        if case in shapes or case.group_size <= MAX_TRL_SWEEP_SIZE:
            names.append(TRL)
        if case == shapes[0] or case.group_size == 1:  # it is the slowest of all
            names.append(TRL_AS_SHIPPED)
        return names

    def _num_rounds(self, case: Case) -> int:
        return self._choice.num_rounds or case.num_rounds

    def _limit(self, pack: Pack) -> MatmulLimit:
        return MatmulLimit(
            self._sizes,
            num_tokens=pack.input_ids.shape[1],
            num_scored=len(pack.source),
            dtype=getattr(torch, self._config.model.dtype),
            device=self._device,
        )

    def _time(self, way: Way, tally: Tally) -> None:
        synchronise(self._device)
        started_s = time.perf_counter()
        loss = way.update()
        synchronise(self._device)
        tally.seconds.append(time.perf_counter() - started_s)
        tally.losses.append(loss)
