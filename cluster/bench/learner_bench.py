"""`floe bench learner`: completion tokens trained per second, beside unshared sequences and trl, interleaved."""

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

from cluster.bench import learner_cases
from cluster.bench.learner_cases import Case, random_group
from cluster.bench.learner_figures import Result, Tally, check_agreement, linear_fit, targets
from cluster.bench.learner_report import Report
from cluster.bench.learner_ways import Way, packed_ways
from cluster.bench.matmul_limit import MatmulLimit, synchronise
from cluster.bench.peak_memory import peak_growth_gib
from cluster.bench.trl_way import configuration, trl_ways
from cluster.embedded_models import model_folder
from cluster.reports.progress import Progress, make_console
from cluster.time_plan.update_flops import ModelSizes, update_flops, work_of
from configs.schema import RunConfig
from learner.packing import Pack

MAX_TRL_SWEEP_SIZE = 16  # beyond it trl's part of the sweep would take minutes and say nothing new
FIRST = Case(prompt_tokens=8, completion_tokens=4, group_size=2)


def bench_learner(config: RunConfig, as_json: bool) -> None:
    """Print the tables, or JSON; progress goes to stderr. Raises RuntimeError when the ways' losses differ."""
    progress = Progress(make_console(stderr=True))
    with TemporaryDirectory(prefix="floe-bench-") as scratch, redirect_stdout(sys.stderr):  # DeepSpeed's messages
        bench = LearnerBench(config, model_folder(config, config.run.home_dir / "demo"), Path(scratch), progress)
        results = {case: bench.measure(case) for case in learner_cases.cases()}
    sweep = tuple(results[case] for case in learner_cases.SWEEP)
    shapes = tuple(results[case] for case in learner_cases.SHAPES)
    fit = linear_fit(sweep)
    report = Report(notes=bench.notes, shapes=shapes, sweep=sweep, fit=fit, targets=tuple(targets(shapes, sweep, fit)))
    if as_json:
        print(json.dumps(report.record(), indent=2))
    else:
        report.render()


class LearnerBench:
    """The ways, built once; each case then takes turns through them."""

    def __init__(self, config: RunConfig, model_dir: Path, scratch_dir: Path, progress: Progress) -> None:
        progress.phase("set-up")
        self._config = config
        self._progress = progress
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._sizes = ModelSizes.of(AutoConfig.from_pretrained(model_dir), config.lora)
        # trl first: DeepSpeed's process group would have it train as one of several.
        self._trl = trl_ways(config, model_dir, scratch_dir)
        self._shared, self._unshared = packed_ways(config, model_dir)
        for way in (self._shared, *(self._trl or ())):
            # The first update makes the optimiser's state, which is none of a case's memory.
            way.load(random_group(FIRST, self._sizes.vocabulary, config.run.seed))
            way.update()
        torch.set_num_threads(config.learner.num_threads or torch.get_num_threads())
        self.notes = (
            f"floe: {self._device}, {torch.get_num_threads()} threads, {config.model.dtype}, LoRA of rank "
            f"{config.lora.rank}, packs of up to {config.learner.max_pack_tokens} tokens, loss of CISPO without a "
            "reference, AdamW by DeepSpeed. Peak memory: of a micro-batch and the optimiser's step, beyond the models.",
            configuration(config) if self._trl else "trl is not installed (extra dev): its rows are left out.",
        )

    def measure(self, case: Case) -> Result:
        is_shape = case in learner_cases.SHAPES
        group = random_group(case, self._sizes.vocabulary, self._config.run.seed)
        ways = self._ways_for(case)
        for way in ways:
            way.load(group)
        self._progress.phase(f"{case.shape}, group of {case.group_size}, {case.num_rounds} rounds")
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
        for number in range(case.num_rounds):
            for way in ways if number % 2 == 0 else ways[::-1]:
                self._time(way, tallies[way.name])
            if limit is not None:
                result.limits_s.append(limit.update_s(work))
            check_agreement(result)
        for name, tally in tallies.items():
            self._progress.note(f"{name}: {tally.median_s:.2f} s")
        return result

    def _ways_for(self, case: Case) -> Sequence[Way]:
        ways: list[Way] = [self._shared, self._unshared]
        if self._trl is not None:
            given_gathering, as_shipped = self._trl
            if case in learner_cases.SHAPES or case.group_size <= MAX_TRL_SWEEP_SIZE:
                ways.append(given_gathering)
            if case == learner_cases.SHAPES[0] or case.group_size == 1:  # it is the slowest of all
                ways.append(as_shipped)
        return ways

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
