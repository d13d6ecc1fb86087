"""The learner bench, made small: its three ways train the same loss, its operations are counted, its verdicts right."""

import importlib.util
import json

import pytest
import torch
from transformers import LlamaConfig

from floe.cluster.bench import duration
from floe.cluster.bench.choice import chosen
from floe.cluster.bench.learner import learner_bench, learner_cases
from floe.cluster.bench.learner.learner_cases import Case, random_group
from floe.cluster.bench.learner.learner_figures import (
    SHARED,
    TRL,
    TRL_AS_SHIPPED,
    UNSHARED,
    WAYS,
    Result,
    Tally,
    check_agreement,
    linear_fit,
    targets,
)
from floe.cluster.bench.learner.matmul_limit import MatmulLimit
from floe.cluster.bench.learner.peak_memory import GIB, peak_growth_gib
from floe.cluster.time_plan.update_flops import Flops, ModelSizes, Work, update_flops, work_of
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import LoraSection
from floe.learner.packing.packs import Branch, PrefixGroup, make_packs
from tests.tiny_models import save_tiny_llama, save_word_tokenizer

CPU = torch.device("cpu")
SMOLLM2 = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
)
SHAPES = (
    Case(prompt_tokens=12, completion_tokens=4, group_size=4),
    Case(prompt_tokens=20, completion_tokens=6, group_size=5),
)
SWEEP = tuple(Case(prompt_tokens=12, completion_tokens=4, group_size=size) for size in (1, 2, 4, 16, 32))


# --- the whole bench


@pytest.fixture
def small_bench(tmp_path, monkeypatch):
    """Arguments of a bench over a model of two layers in float32."""
    save_tiny_llama(tmp_path, initializer_range=0.25)
    save_word_tokenizer(tmp_path, 64)
    monkeypatch.setattr(learner_cases, "SHAPES", SHAPES)
    monkeypatch.setattr(learner_cases, "SWEEP", SWEEP)
    monkeypatch.setattr(learner_cases, "MAX_ROUNDS", 2)
    return load_config(None, [f"model.path={tmp_path}", "model.dtype=float32", "learner.max_pack_tokens=64"])


@pytest.mark.engine
@pytest.mark.long
def test_small_bench_prints_every_case_way_and_target(small_bench, capsys):
    learner_bench.bench_learner(small_bench, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    has_trl = importlib.util.find_spec("trl") is not None
    trl, shipped = ({TRL}, {TRL, TRL_AS_SHIPPED}) if has_trl else (set(), set())
    own = {SHARED, UNSHARED}
    assert [set(shape["ways"]) for shape in printed["shapes"]] == [own | shipped, own | trl]
    assert [set(size["ways"]) for size in printed["sweep"]] == [own | shipped, own | trl, own | shipped, own | trl, own]
    assert [size["packed_tokens"] for size in printed["sweep"]] == [16, 20, 28, 76 + 12, 140 + 2 * 12]
    for case in printed["shapes"] + printed["sweep"]:
        (expected, *others) = [loss for way in case["ways"].values() for loss in way["losses"]]
        assert len(others) == 2 * len(case["ways"]) - 1
        assert expected > 0
        assert others == pytest.approx([expected] * len(others), rel=1e-5)
        for way in case["ways"].values():
            assert way["trained_per_s"] * way["median_s"] == pytest.approx(
                case["group_size"] * case["completion_tokens"]
            )
    for shape in printed["shapes"]:
        assert shape["flop_ratio"] == shape["flops"]["unshared"] / shape["flops"]["shared"]
        assert shape["limit_s"] > 0
    assert printed["sweep"][0]["flops"]["shared"] == printed["sweep"][0]["flops"]["unshared"]
    assert {target["verdict"] for target in printed["targets"]} <= {"reached", "missed", "not measured"}
    assert printed["notes"][2].startswith("trl ")


@pytest.mark.engine
def test_without_trl_its_rows_are_left_out_and_its_targets_not_measured(small_bench, monkeypatch, capsys):
    monkeypatch.setattr(learner_bench, "trl_ways", lambda *_: None)
    learner_bench.bench_learner(small_bench, as_json=False)
    printed = capsys.readouterr().out
    assert "trl is not installed" in printed
    rows = [line for line in printed.splitlines() if line.strip().startswith("shared / trl")]
    assert len(rows) == 4
    assert all("not measured" in row for row in rows)
    assert f"12/4 x 4, {UNSHARED}" in printed
    assert f"12/4 x 4, {TRL}" not in printed


@pytest.mark.engine
def test_ways_shapes_and_rounds_that_are_asked_for_are_all_that_is_measured(small_bench, capsys):
    choice = chosen(WAYS, "shared,unshared", "12/4x3,9/2x1", 3)
    learner_bench.bench_learner(small_bench, as_json=True, choice=choice)
    found = capsys.readouterr()
    printed = json.loads(found.out)
    sizes = [(shape["prompt_tokens"], shape["completion_tokens"], shape["group_size"]) for shape in printed["shapes"]]
    assert sizes == [(12, 4, 3), (9, 2, 1)]
    assert printed["sweep"] == []
    assert printed["fit"] is None
    for shape in printed["shapes"]:
        assert set(shape["ways"]) == {SHARED, UNSHARED}
        assert [len(way["seconds"]) for way in shape["ways"].values()] == [3, 3]
    assert "on this machine" in found.err
    assert found.err.index("PyTorch's kernels for") < found.err.index("on this machine") < found.err.index("rounds")


# --- options


def test_shapes_are_read_with_and_without_a_group_size():
    choice = chosen(WAYS, None, "150/24, 600/60x8,150/24", None)
    assert choice.shapes == (
        Case(prompt_tokens=150, completion_tokens=24, group_size=16),
        Case(prompt_tokens=600, completion_tokens=60, group_size=8),
    )
    assert all(choice.wants(way) for way in WAYS.values())


def test_ways_are_read_by_their_short_names():
    choice = chosen(WAYS, "trl", None, 2)
    assert choice.ways == (TRL,)
    assert not choice.wants(UNSHARED)


@pytest.mark.parametrize("shapes", ["150", "150/", "0/24", "150/24x0", "a/b", "150/24x"])
def test_a_shape_that_is_none_is_refused_with_an_example(shapes):
    with pytest.raises(UserError, match=r"is not a shape: .* as in 150/24,600/60x8"):
        chosen(WAYS, None, shapes, None)


def test_an_unknown_way_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"'verl' is not a way .* shared, unshared, trl, trl-as-shipped"):
        chosen(WAYS, "shared,verl", None, None)


def test_planned_time_grows_with_rounds_ways_and_work():
    sizes = ModelSizes.of(SMOLLM2, LoraSection())

    def planned_s(case, ways, num_rounds=2):
        return duration.learner_bench_s(sizes, 1e11, [(case, ways, num_rounds)])

    small, large = learner_cases.SHAPES[0], learner_cases.SHAPES[2]
    by_work = [
        planned_s(small, [SHARED]),
        planned_s(small, [UNSHARED]),
        planned_s(small, [TRL_AS_SHIPPED]),
        planned_s(small, [TRL_AS_SHIPPED, SHARED]),
        planned_s(large, [TRL_AS_SHIPPED, SHARED]),
        planned_s(large, [TRL_AS_SHIPPED, SHARED], 5),
    ]
    assert by_work == sorted(set(by_work))


# --- cases


def test_every_case_is_measured_once():
    every = list(learner_cases.cases())
    assert len(every) == len(set(every)) == 9
    assert {*learner_cases.SHAPES, *learner_cases.SWEEP} == set(every)
    assert [case.num_rounds for case in learner_cases.SHAPES] == [5, 2, 2]


def test_a_group_of_random_tokens_is_of_its_case_and_the_same_each_time():
    case = Case(prompt_tokens=7, completion_tokens=3, group_size=4)
    group = random_group(case, 50, seed=1)
    assert len(group.prompt) == 7
    assert [len(completion) for completion in group.completions] == [3] * 4
    assert len(set(group.completions)) == 4
    assert all(0 <= token < 50 for tokens in (group.prompt, *group.completions) for token in tokens)
    assert group.advantages == (1.0, 0.5, 1.0, 0.5)
    assert random_group(case, 50, seed=1) == group != random_group(case, 50, seed=2)


# --- operations


def test_sizes_of_smollm2():
    sizes = ModelSizes.of(SMOLLM2, LoraSection())
    assert sizes.num_layers * sum(inputs * outputs for inputs, outputs in sizes.projections) == 106_168_320
    assert sizes.num_layers * sizes.lora_weights == 4_884_480
    assert (sizes.attention_width, sizes.hidden, sizes.vocabulary) == (576, 576, 49152)
    only_queries = ModelSizes.of(SMOLLM2, LoraSection(rank=8, target_modules=("q_proj", "k_proj")))
    assert only_queries.lora_weights == 8 * (576 + 576 + 576 + 192)


def test_work_of_packs_by_hand():
    shared = PrefixGroup(
        prefix_ids=(1, 2, 3), branches=(Branch(token_ids=(4, 5), weight=1.0), Branch(token_ids=(6,), weight=1.0))
    )
    alone = PrefixGroup(prefix_ids=(1, 2), branches=(Branch(token_ids=(3, 4, 5), loss_from=1, weight=1.0),))
    # prefix 1+2+3, the branches' tokens 4+5 and 4; alone 1+2+3+4+5
    assert work_of(make_packs([shared, alone], 100)) == Work(num_tokens=11, num_scored=5, num_pairs=19 + 15)
    assert work_of(make_packs([shared], 5)) == Work(num_tokens=9, num_scored=3, num_pairs=15 + 10)


def test_operations_by_hand():
    sizes = ModelSizes(
        num_layers=2, projections=((3, 5), (5, 3)), lora_weights=16, attention_width=4, hidden=3, vocabulary=7
    )
    flops = update_flops(sizes, Work(num_tokens=10, num_scored=2, num_pairs=6))
    assert flops == Flops(projections=4 * 10 * 2 * 30, lora=6 * 10 * 2 * 16, attention=12 * 6 * 2 * 4, head=4 * 2 * 21)
    assert flops.total == 2400 + 1920 + 576 + 168


@pytest.mark.parametrize(("case", "ratio"), list(zip(learner_cases.SHAPES, (4.51, 5.74, 6.87), strict=True)))
def test_ratio_of_operations_of_smollm2(case, ratio):
    sizes = ModelSizes.of(SMOLLM2, LoraSection())
    group = random_group(case, 49152, seed=1)
    branches = tuple(Branch(token_ids=completion, weight=1.0) for completion in group.completions)
    shared = [PrefixGroup(prefix_ids=group.prompt, branches=branches)]
    unshared = [PrefixGroup(prefix_ids=group.prompt, branches=(branch,)) for branch in branches]
    work = [work_of(make_packs(groups, learner_cases.MAX_PACK_TOKENS)) for groups in (unshared, shared)]
    over, under = (update_flops(sizes, one).total for one in work)
    assert over / under == pytest.approx(ratio, abs=0.02)


def test_limit_grows_with_the_work():
    sizes = ModelSizes(
        num_layers=2, projections=((32, 48), (48, 32)), lora_weights=160, attention_width=32, hidden=32, vocabulary=64
    )
    limit = MatmulLimit(sizes, num_tokens=64, num_scored=16, dtype=torch.float32, device=CPU)
    once, many = (Work(num_tokens=64 * n, num_scored=16 * n, num_pairs=2000 * n) for n in (1, 10_000))
    assert 0 < limit.update_s(once) < limit.update_s(many)


def test_peak_memory_sees_what_is_freed_before_the_end():
    def work() -> None:
        held = torch.ones(2**26)  # 256 MiB
        for _ in range(10):
            held.add_(1)

    assert 0.2 < peak_growth_gib(work, CPU) < 2 * 256 * 2**20 / GIB


# --- figures and verdicts


def result(case: Case, flop_ratio: int = 4, **seconds: float) -> Result:
    flops = [Flops(projections=number, lora=0, attention=0, head=0) for number in (1, flop_ratio)]
    names = {"shared": SHARED, "unshared": UNSHARED, "trl": TRL}
    return Result(
        case=case,
        shared=Work(num_tokens=case.prompt_tokens + case.num_trained, num_scored=case.num_trained, num_pairs=0),
        shared_flops=flops[0],
        unshared_flops=flops[1],
        ways={names[way]: Tally(0.0, [taken, taken, 100 * taken], [2.0]) for way, taken in seconds.items()},
        limits_s=[0.4, 0.5, 0.6],
    )


def sweep_of(*seconds: float) -> list[Result]:
    return [result(case, shared=taken, unshared=taken) for case, taken in zip(SWEEP, seconds, strict=True)]


def test_figures_of_a_case_are_of_the_median_round():
    found = result(SHAPES[0], shared=2.0, unshared=7.0)
    assert found.flop_ratio == 4
    assert found.speedup(UNSHARED) == 3.5
    assert found.speedup(TRL) is None
    assert found.trained_per_s(SHARED) == 16 / 2
    assert found.share_of_limit == 0.25


def test_the_fit_of_times_that_grow_with_the_packed_tokens_is_a_line():
    tokens = [one.shared.num_tokens for one in sweep_of(1, 1, 1, 1, 1)]
    fit = linear_fit(sweep_of(*(0.1 + 0.002 * count for count in tokens)))
    assert fit.ms_per_token == pytest.approx(2)
    assert fit.constant_ms == pytest.approx(100)
    assert fit.r_squared == pytest.approx(1)
    assert linear_fit(sweep_of(1, 9, 2, 8, 1)).r_squared < 0.5


def verdicts(shapes: list[Result], sweep: list[Result]) -> dict[str, str]:
    return {target.name: target.verdict for target in targets(shapes, sweep, linear_fit(sweep))}


def test_verdicts():
    tokens = [one.shared.num_tokens for one in sweep_of(1, 1, 1, 1, 1)]
    good = [
        result(SHAPES[0], shared=1.0, unshared=3.41, trl=3.5),
        result(SHAPES[1], shared=2.0, unshared=6.78, trl=1.8),
    ]
    assert verdicts(good, sweep_of(*tokens)) == {
        "shared / unshared, 12/4 x 4 (FLOP ratio 4.00)": "reached",
        "shared / unshared, 20/6 x 5 (FLOP ratio 4.00)": "missed",
        "shared / unshared, group of 1": "reached",
        f"shared / {TRL}, 12/4 x 4": "reached",
        f"shared / {TRL}, 20/6 x 5": "missed",
        f"shared / {TRL}, slowest of all": "missed",
        f"shared / {TRL_AS_SHIPPED}, slowest of all": "not measured",
        "share of the matmul limit, 12/4 x 4": "reached",
        "share of the matmul limit, 20/6 x 5": "missed",
        "R^2 of seconds against packed tokens": "reached",
    }


@pytest.mark.parametrize(("unshared_s", "verdict"), [(0.96, "reached"), (0.94, "missed")])
def test_a_group_of_one_may_not_be_slower_by_more_than_a_twentieth(unshared_s, verdict):
    sweep = [result(SWEEP[0], shared=1.0, unshared=unshared_s), *sweep_of(1, 2, 3, 4, 5)[1:]]
    assert verdicts([], sweep)["shared / unshared, group of 1"] == verdict


LARGE = Case(prompt_tokens=150, completion_tokens=24, group_size=16)


@pytest.mark.parametrize(
    ("case", "way", "loss"),
    [
        (LARGE, UNSHARED, 2.003),
        (LARGE, TRL, 2.03),
        (LARGE, TRL, float("nan")),
        (SHAPES[0], UNSHARED, 2.011),  # 16 tokens instead of 384
    ],
)
def test_ways_whose_losses_differ_are_an_error(case, way, loss):
    found = result(case, shared=1.0, unshared=2.0, trl=3.0)
    found.ways[way].losses.append(loss)
    with pytest.raises(RuntimeError, match="the loss of"):
        check_agreement(found)


def test_losses_that_differ_by_rounding_agree():
    for case, loss in ((LARGE, 2.0015), (SHAPES[0], 2.009)):
        found = result(case, shared=1.0, unshared=2.0, trl=3.0)
        found.ways[UNSHARED].losses.append(loss)
        check_agreement(found)
