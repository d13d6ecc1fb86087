"""The memory plan: counts written down from published figures, verdicts by card, and properties of every plan."""

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig

from floe.cluster.memory_plan import ModelShape, plan_memory
from floe.cluster.memory_plan.basis import PlanBasis
from floe.cluster.memory_plan.engine_memory import group_kv_bytes, kv_bytes
from floe.cluster.memory_plan.learner.learner_memory import learner_state, learner_work
from floe.cluster.memory_plan.learner.packs import MAX_SCORES, exact_pack, heaviest_pack
from floe.cluster.memory_plan.learner.work import Counting, MeasuredWork, Point, WorkLine
from floe.cluster.memory_plan.phases import Device, Phase, Role
from floe.cluster.memory_plan.placements import Placements
from floe.cluster.memory_plan.shapes.model_config import count
from floe.cluster.memory_plan.shapes.published import PUBLISHED, QWEN, is_published, published_shape
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import Colocation
from floe.configs.sections.learning_sections import SEVEN_PROJECTIONS

REPOSITORY = Path(__file__).parent.parent
GB = 10**9
GIB = 2**30


@pytest.fixture(scope="module")
def shapes() -> dict[str, ModelShape]:
    return {size: published_shape(f"{QWEN}-{size}-Instruct") for size in ("0.5B", "1.5B", "3B", "7B")}


SHAPE_3B = published_shape(f"{QWEN}-3B")


def config(changes: dict | None = None) -> RunConfig:
    """Return the shipped configuration for one 24 GB card, with changes."""
    given = {
        "data.questions": "q.json",
        "data.databases": "d",
        "model.dtype": "bfloat16",
        "rollout.dtype": "bfloat16",
    } | (changes or {})
    return load_config(
        REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml", [f"{key}={value}" for key, value in given.items()]
    )


@pytest.mark.parametrize(
    ("size", "parameters", "adapter"),
    [
        ("0.5B", 494_032_768, 8_798_208),
        ("1.5B", 1_543_714_304, 18_464_768),
        ("3B", 3_085_938_688, 29_933_568),
        ("7B", 7_615_616_512, 40_370_176),
    ],
)
def test_parameters_are_those_of_the_published_models(shapes, size, parameters, adapter):
    assert shapes[size].num_parameters == parameters
    assert shapes[size].num_adapter_parameters(16, SEVEN_PROJECTIONS) == adapter


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_that_is_written_down_is_that_of_transformers_model(name):
    built = count(name, AutoConfig.for_model(**asdict(PUBLISHED[name])))
    assert published_shape(name) == built


def test_a_model_that_is_not_written_down_is_not_known_here():
    assert is_published(f"{QWEN}-3B-Instruct") and not is_published("somebody/another-model")


def test_figures_that_are_often_given_wrongly():
    """Check Qwen2.5-Coder-3B's values: each has been stated elsewhere with twice or half the value, or left out."""
    rank_16 = SHAPE_3B.num_adapter_parameters(16, SEVEN_PROJECTIONS)
    assert SHAPE_3B.num_parameters - SHAPE_3B.num_embedding_parameters == 2_774_773_760
    assert SHAPE_3B.weight_bytes("bfloat16") == 6_171_877_376  # not 12 GB: that is float32
    assert round(100 * rank_16 / SHAPE_3B.num_parameters, 3) == 0.970  # not 16.4 million, 0.54 %
    assert rank_16 == 36 * 16 * (4096 + 2304 + 2304 + 4096 + 13_056 + 13_056 + 13_056)
    assert SHAPE_3B.num_adapter_parameters(8, SEVEN_PROJECTIONS) == 14_966_784
    assert SHAPE_3B.num_adapter_parameters(32, SEVEN_PROJECTIONS) == 59_867_136
    assert SHAPE_3B.num_adapter_parameters(16, ("q_proj", "k_proj", "v_proj", "o_proj")) == 7_372_800
    state = learner_state(config(), SHAPE_3B)
    assert state.optimizer == 12 * rank_16 == 359_202_816  # with the master; not 2 GB
    assert state.adapter == 2 * rank_16 == 59_867_136  # the reference is the base itself: 0 further bytes
    assert SHAPE_3B.kv_bytes_per_token("bfloat16") == 36_864
    assert SHAPE_3B.logits_bytes_per_token == 607_744


def test_a_group_shares_its_prompt_in_the_kv_cache():
    long = config({"model.max_context_tokens": 6144, "rollout.max_new_tokens": 2048, "rollout.group_size": 16})
    assert group_kv_bytes(long, SHAPE_3B, on_cpu=False) == 36_864 * (4096 + 16 * 2048)  # 1.36 GB
    assert 16 * kv_bytes(long, SHAPE_3B, 6144, on_cpu=False) == 36_864 * 16 * 6144  # 3.62 GB unshared


def test_logits_are_counted_by_the_chunk():
    tokens = 16 * 2048
    whole = tokens * SHAPE_3B.logits_bytes_per_token
    assert round(whole / 1e9, 1) == 19.9
    work = learner_work(config(), SHAPE_3B, heaviest_pack(config(), SHAPE_3B.num_heads, tokens))
    assert work.logits <= 0.01 * whole


def test_the_shipped_configuration_fits_24_gb_side_by_side():
    """The learner's work is as counted for packs of 8192 tokens; its bound is half as much again."""
    line = WorkLine(
        few=Point(num_tokens=0, kept_bytes=0, peak_bytes=0),
        many=Point(num_tokens=8192, kept_bytes=int(1.22 * GIB), peak_bytes=int(2.89 * GIB)),
    )
    own = Point(num_tokens=6144, kept_bytes=int(0.43 * GIB), peak_bytes=int(2.14 * GIB))
    counting = Counting(learning=lambda _: (line,), warm_start=lambda _: (line,), own_forward=lambda _: own)
    plan = plan_memory(config(), SHAPE_3B, int(21.96 * GIB), PlanBasis(work=MeasuredWork(counting)))
    assert plan.device is Device.SHARED_GPU and plan.work.is_measured
    assert plan.colocation is Colocation.RESIDENT
    assert plan_memory(config(), SHAPE_3B, int(21.96 * GIB)).colocation is Colocation.ENGINE_SLEEPS
    assert plan.remedy is None


@pytest.mark.parametrize(
    ("size", "budget_gb", "share", "expected"),
    [
        ("0.5B", 16, 0.45, Colocation.RESIDENT),
        ("1.5B", 16, 0.5, Colocation.ENGINE_SLEEPS),
        ("3B", 16, 0.45, None),
        ("3B", 16, 0.59, Colocation.LEARNER_OFFLOADS),
        ("3B", 24, 0.45, Colocation.ENGINE_SLEEPS),
        ("3B", 24, 0.6, Colocation.ENGINE_SLEEPS),
        ("3B", 24, 0.9, Colocation.LEARNER_OFFLOADS),
        ("3B", 40, 0.5, Colocation.RESIDENT),
        ("7B", 24, 0.45, None),
        ("7B", 24, 0.9, None),  # its packs of 8192 tokens are too large
        ("7B", 40, 0.8, Colocation.LEARNER_OFFLOADS),
        ("7B", 40, 0.45, Colocation.ENGINE_SLEEPS),
        ("7B", 80, 0.45, Colocation.RESIDENT),
    ],
)
def test_verdicts_by_card_where_work_is_bounded(shapes, size, budget_gb, share, expected):
    plan = plan_memory(config({"rollout.gpu_memory_share": share}), shapes[size], budget_gb * GB)
    assert plan.colocation is expected
    assert (plan.remedy is None) is (expected is not None)


def test_each_placement_gives_up_what_it_says():
    by_colocation = {option.colocation: option for option in plan_memory(config(), SHAPE_3B, 24 * GB).options}

    def held(colocation, phase, role):
        planned = next(one for one in by_colocation[colocation].phases if one.phase is phase)
        return planned.role_bytes(role)

    resident, sleeps, offloads = Colocation
    base = SHAPE_3B.weight_bytes("bfloat16")
    assert held(sleeps, Phase.LEARNING, Role.ENGINE) < held(resident, Phase.LEARNING, Role.ENGINE) - base
    assert held(sleeps, Phase.GENERATING, Role.LEARNER) == held(resident, Phase.GENERATING, Role.LEARNER)
    assert held(offloads, Phase.GENERATING, Role.LEARNER) == held(sleeps, Phase.GENERATING, Role.LEARNER) - base
    assert held(offloads, Phase.LEARNING, Role.LEARNER) == held(sleeps, Phase.LEARNING, Role.LEARNER)
    peaks = [by_colocation[one].peak_bytes for one in Colocation]
    assert peaks == sorted(peaks, reverse=True)
    assert [by_colocation[one].host_bytes > 0 for one in Colocation] == [False, True, True]


def test_a_placement_that_is_asked_for_is_the_only_one():
    plan = plan_memory(config({"cluster.colocation": "learner_offloads"}), SHAPE_3B, 80 * GB)
    assert [option.colocation for option in plan.options] == [Colocation.LEARNER_OFFLOADS]
    assert plan_memory(config({"cluster.colocation": "resident"}), SHAPE_3B, 16 * GB).colocation is None


def test_gpus_of_their_own_need_no_turns():
    apart = config({"rollout.num_gpus": 1, "learner.num_gpus": 1, "rollout.gpu_memory_share": 0.9})
    plan = plan_memory(apart, SHAPE_3B, 24 * GB)
    assert (plan.device, plan.colocation) == (Device.OWN_GPUS, Colocation.RESIDENT)
    (option,) = plan.options
    assert option.peak_bytes < 24 * GB < sum(option.phases[1].role_bytes(role) for role in Role)


def test_several_actors_on_one_gpu_are_all_counted():
    one = plan_memory(config({"rollout.num_gpus": 0.25}), SHAPE_3B, 80 * GB).options[0]
    two = plan_memory(config({"rollout.num_gpus": 0.25, "rollout.num_actors": 2}), SHAPE_3B, 80 * GB).options[0]
    for before, after in zip(one.phases, two.phases, strict=True):
        assert after.role_bytes(Role.ENGINE) == 2 * before.role_bytes(Role.ENGINE)


def test_without_a_gpu_both_processes_share_the_host():
    on_cpu = load_config(REPOSITORY / "configs" / "quickstart.yaml", ["model.dtype=bfloat16", "rollout.dtype=bfloat16"])
    plan = plan_memory(on_cpu, published_shape("embedded:smollm2-135m-instruct"), 24 * GIB)
    assert (plan.device, plan.colocation) == (Device.HOST, Colocation.RESIDENT)
    assert all(phase.role_bytes(role) > 0 for phase in plan.options[0].phases for role in Role)


@pytest.mark.parametrize(
    ("size", "budget_gb", "changes"),
    [
        ("3B", 16, {}),
        ("7B", 24, {}),
        ("3B", 24, {"learner.gradient_checkpointing": "false"}),
        ("7B", 80, {"rollout.gpu_memory_share": 0.1}),
        ("3B", 16, {"cluster.colocation": "resident", "rollout.gpu_memory_share": 0.6}),
    ],
)
def test_the_remedy_really_makes_it_fit_and_nothing_of_it_is_needless(shapes, size, budget_gb, changes):
    before = config(changes)
    remedy = plan_memory(before, shapes[size], budget_gb * GB).remedy
    assert remedy is not None and remedy.changes

    def fits(more: dict) -> bool:
        return plan_memory(config(changes | more), shapes[size], budget_gb * GB).colocation is not None

    assert fits(remedy.changes)
    for key in remedy.changes:
        fewer = {name: value for name, value in remedy.changes.items() if name != key}
        assert not fits(fewer) or key == "rollout.max_new_tokens"


def test_what_no_setting_can_help_names_the_device_that_would_do(shapes):
    remedy = plan_memory(config(), shapes["7B"], 12 * GB).remedy
    assert remedy is not None and not remedy.changes
    assert 14 * GIB < remedy.needed_bytes < 24 * GIB


TOKENS = st.integers(1, 60_000)


@settings(max_examples=200, deadline=None)
@given(
    fewer=TOKENS,
    more=TOKENS,
    checkpointing=st.booleans(),
    context=st.integers(128, 8192),
    share=st.floats(0.05, 0.95),
    group_size=st.integers(1, 64),
)
def test_more_tokens_never_take_less_memory(fewer, more, checkpointing, context, share, group_size):
    fewer, more = sorted((fewer, more))
    given_config = config(
        {
            "learner.gradient_checkpointing": checkpointing,
            "model.max_context_tokens": context,
            "rollout.max_new_tokens": max(1, int(context * share)),
            "rollout.group_size": group_size,
        }
    )
    small, large = (
        learner_work(given_config, SHAPE_3B, heaviest_pack(given_config, SHAPE_3B.num_heads, tokens)).num_bytes
        for tokens in (fewer, more)
    )
    assert small <= large
    assert kv_bytes(given_config, SHAPE_3B, fewer, False) <= kv_bytes(given_config, SHAPE_3B, more, False)


@settings(max_examples=100, deadline=None)
@given(
    prompt=st.integers(1, 4096), completion=st.integers(1, 2048), count=st.integers(2, 16), checkpointing=st.booleans()
)
def test_no_group_of_even_completions_takes_more_than_the_heaviest_pack(prompt, completion, count, checkpointing):
    given_config = config({"learner.gradient_checkpointing": checkpointing})
    exact = exact_pack(SHAPE_3B.num_heads, prompt, completion, count)
    heaviest = heaviest_pack(given_config, SHAPE_3B.num_heads, exact.num_tokens)
    assert exact.num_scores <= MAX_SCORES
    works = [learner_work(given_config, SHAPE_3B, pack).num_bytes for pack in (exact, heaviest)]
    assert works[0] <= works[1]


@settings(max_examples=60, deadline=None)
@given(
    budget_gb=st.integers(8, 96),
    share=st.floats(0.1, 0.9),
    checkpointing=st.booleans(),
    max_pack_tokens=st.integers(64, 32_768),
    name=st.sampled_from(sorted(PUBLISHED)),
)
def test_the_largest_pack_fits_and_one_token_more_does_not(budget_gb, share, checkpointing, max_pack_tokens, name):
    given_config = config(
        {
            "rollout.gpu_memory_share": share,
            "learner.gradient_checkpointing": checkpointing,
            "learner.max_pack_tokens": max_pack_tokens,
        }
    )
    placements = Placements(given_config, SHAPES[name], budget_gb * GB)
    for option in plan_memory(given_config, SHAPES[name], budget_gb * GB).options:

        def held(num_tokens: int, colocation: Colocation = option.colocation) -> int:
            busy = Phase.LEARNING, Phase.EQUALITY
            return max(placements.phase_plan(colocation, phase, num_tokens).num_bytes for phase in busy)

        if option.max_pack_tokens > 0:
            assert held(option.max_pack_tokens) <= budget_gb * GB
        if option.max_pack_tokens < 2**24:
            assert held(option.max_pack_tokens + 1) > budget_gb * GB
        if option.fits:
            assert option.max_pack_tokens >= option.pack_tokens
            assert option.max_kv_bytes + SHAPES[name].kv_bytes_per_token("bfloat16") > option.kv_bytes


SHAPES = {name: published_shape(name) for name in PUBLISHED}
