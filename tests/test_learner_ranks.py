"""Two ranks against one, and an interrupted warm start: real processes, real DeepSpeed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from floe.cluster.messages import (
    Completion,
    LearnerRank,
    Outcome,
    Question,
    RolloutGroup,
    Score,
    ScoredGroup,
    WarmStartExample,
)
from floe.configs.schema import AlgorithmSection, LearnerSection, LoraSection, ModelSection, RolloutSection, RunConfig
from floe.learner.loss.training_groups import training_groups
from floe.learner.packing.rank_balance import rank_share
from tests.tiny_models import save_tiny_llama

pytestmark = pytest.mark.engine

MAX_PACK_TOKENS = 64


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


def config_of(dtype: str, dropout: float = 0.0) -> RunConfig:
    return RunConfig(
        model=ModelSection(dtype=dtype),
        rollout=RolloutSection(dtype=dtype),
        lora=LoraSection(rank=8, alpha=16, dropout=dropout),
        # A clip that never acts: the gradient itself is compared.
        learner=LearnerSection(max_pack_tokens=MAX_PACK_TOKENS, max_grad_norm=1e6, num_threads=1),
        algorithm=AlgorithmSection(kl_coefficient=0.01),
    )


def group(number: int, lengths: tuple[int, ...]) -> ScoredGroup:
    """The first candidate is right, the last does not run."""
    random = torch.Generator().manual_seed(number)
    completions = tuple(
        Completion(
            text="",
            token_ids=tuple(torch.randint(64, (length,), generator=random).tolist()),
            logprobs=(-4.2,) * length,
            truncated=False,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for length in lengths
    )
    question = Question(question_id=f"q{number}", database_id="shop", text="How many?", gold_sql=("SELECT 1",))
    rollout = RolloutGroup(
        group_id=str(number),
        question=question,
        prompt_token_ids=tuple(range(9)),
        temperature=1.0,
        seed=number,
        completions=completions,
    )
    outcomes = [(Outcome.MATCH, 1.0)] + [(Outcome.MISMATCH, 0.1)] * (len(lengths) - 2) + [(Outcome.SYNTAX_ERROR, 0.0)]
    return ScoredGroup(
        rollout=rollout, scores=tuple(Score(outcome=outcome, reward=r, seconds=0.0) for outcome, r in outcomes)
    )


# A branch over the budget is a pack alone; no two of the small groups fit into one.
THREE_PACKS_AGAINST_ONE = [group(1, (150, 0)), group(2, (6, 5, 6, 7)), group(3, (7, 4, 6, 7)), group(4, (6, 6, 6, 6))]
ONE_PACK_AGAINST_NONE = [group(5, (10, 9, 8))]


def update(
    rank: LearnerRank,
    config: RunConfig,
    model_dir: Path,
    groups: list[ScoredGroup],
    folder: Path,
    supervised: Sequence[WarmStartExample] = (),
) -> list:
    """Make two steps in a separate process; leave AdamW's first moments, which mix their gradients, in `folder`."""
    from floe.learner.grpo_learner import GrpoLearner

    learner = GrpoLearner(config, model_dir, None, lambda blob: blob, rank)
    reports = [learner.update(step, groups, supervised) for step in (1, 2)]
    trained = {name: p for name, p in learner._policy.named_parameters() if p.requires_grad}
    moments = {name: first_moment(learner._engine, parameter).contiguous() for name, parameter in trained.items()}
    if rank.index == 0:
        save_file(moments, folder / "moments.safetensors")
    return reports


def first_moment(engine, parameter: torch.nn.Parameter) -> torch.Tensor:
    """Return the whole of what the ranks share; at stage 0, one rank's in float32, DeepSpeed does not reveal it."""
    from deepspeed.utils import safe_get_full_optimizer_state

    plain = engine._adam.state.get(parameter)
    return plain["exp_avg"] if plain else safe_get_full_optimizer_state(parameter, "exp_avg")


def on_ranks(
    num_ranks: int,
    config: RunConfig,
    model_dir: Path,
    groups: Sequence,
    folder: Path,
    supervised: Sequence[WarmStartExample] = (),
) -> list:
    from floe.learner.optimizer.deepspeed_engine import free_port

    port = free_port("127.0.0.1")
    folder.mkdir()
    with ProcessPoolExecutor(num_ranks, mp_context=multiprocessing.get_context("spawn")) as pool:
        places = [LearnerRank(index=i, count=num_ranks, host="127.0.0.1", port=port) for i in range(num_ranks)]
        running = [pool.submit(update, place, config, model_dir, groups, folder, supervised) for place in places]
        return [done.result(timeout=1800) for done in running]


def test_ranks_of_one_machine_talk_over_its_loopback_interface_alone(monkeypatch):
    from floe.learner.optimizer import deepspeed_engine

    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    at_start: dict[str, str] = {}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)  # though another test has joined a group
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: at_start.update(os.environ))
    monkeypatch.setattr(deepspeed_engine.deepspeed, "init_distributed", lambda **_: None)
    monkeypatch.setattr(deepspeed_engine, "_store", lambda rank: None)
    with monkeypatch.context() as process:
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
            process.setenv(name, "")
        deepspeed_engine._join_process_group(LearnerRank(index=0, count=2, host="10.0.0.5", port=1))
        assert not {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} & at_start.keys()
        deepspeed_engine._join_process_group(LearnerRank(index=0, count=2, host="127.0.0.1", port=1))
    assert (at_start["GLOO_SOCKET_IFNAME"], at_start["NCCL_SOCKET_IFNAME"]) == ("lo", "lo")


@pytest.mark.parametrize(
    ("groups", "num_packs", "dtype"),
    [
        pytest.param(THREE_PACKS_AGAINST_ONE, [1, 3], "float32", id="3:1-float32", marks=pytest.mark.long),
        pytest.param(ONE_PACK_AGAINST_NONE, [1, 0], "bfloat16", id="1:0-bfloat16", marks=pytest.mark.long),
        pytest.param(THREE_PACKS_AGAINST_ONE, [1, 3], "bfloat16", id="3:1-bfloat16", marks=pytest.mark.soak),
        pytest.param(ONE_PACK_AGAINST_NONE, [1, 0], "float32", id="1:0-float32", marks=pytest.mark.soak),
    ],
)
def test_two_ranks_update_as_one(model_dir, tmp_path, groups, num_packs, dtype):
    config = config_of(dtype)
    useful = training_groups(groups, config.algorithm, config.rollout.max_new_tokens)
    shares = [rank_share(useful, MAX_PACK_TOKENS, rank, 2) for rank in range(2)]
    assert [len(share.packs) for share in shares] == num_packs
    (one,) = on_ranks(1, config, model_dir, groups, tmp_path / "one")
    two, other = on_ranks(2, config, model_dir, groups, tmp_path / "two")
    assert two == other
    moments = [load_file(tmp_path / name / "moments.safetensors") for name in ("one", "two")]
    expected, found = (torch.cat([moment[name].flatten().double() for name in sorted(moment)]) for moment in moments)
    assert expected.norm() > 0
    if dtype == "float32":
        assert (found - expected).norm() <= 1e-5 * expected.norm()
        for a, b in zip(one, two, strict=True):
            assert asdict(b) == pytest.approx(asdict(a), rel=1e-5, abs=1e-7)
    else:
        assert torch.cosine_similarity(found, expected, dim=0) >= 0.9999
    assert [report.trained_tokens for report in two] == [report.trained_tokens for report in one]
    assert all(report.grad_norm > 0 for report in two)


@pytest.mark.long
def test_each_rank_draws_the_masks_of_its_packs(model_dir, tmp_path):
    """The packs have the masks that a single rank would give them, however they are dealt out."""
    config, groups = config_of("float32", dropout=0.3), THREE_PACKS_AGAINST_ONE
    (one,) = on_ranks(1, config, model_dir, groups, tmp_path / "one")
    two, _ = on_ranks(2, config, model_dir, groups, tmp_path / "two")
    expected, found = (load_file(tmp_path / name / "moments.safetensors") for name in ("one", "two"))
    for name, moment in expected.items():
        assert (found[name] - moment).norm() <= 1e-4 * moment.norm()
    for a, b in zip(one, two, strict=True):
        assert asdict(b) == pytest.approx(asdict(a), rel=1e-5, abs=1e-7)


@pytest.mark.long
def test_two_ranks_add_the_supervised_term_as_one(model_dir, tmp_path):
    """The answers are three packs: one rank has two of them, and runs an empty one of GRPO's."""
    config = config_of("float32")
    config = config.model_copy(
        update={"algorithm": config.algorithm.model_copy(update={"supervised_coefficient": 0.5})}
    )
    answers = [
        WarmStartExample(
            database_id=f"db{number}",
            prompt_token_ids=tuple(range(number, number + 9)),
            answer_token_ids=tuple(range(10, 50 + number)),
        )
        for number in range(3)
    ]
    groups = ONE_PACK_AGAINST_NONE
    (one,) = on_ranks(1, config, model_dir, groups, tmp_path / "one", answers)
    two, other = on_ranks(2, config, model_dir, groups, tmp_path / "two", answers)
    (without,) = on_ranks(1, config, model_dir, groups, tmp_path / "without")
    assert two == other and one[0].supervised_loss > 0
    assert without[0].supervised_loss is None and without[0].grad_norm != pytest.approx(one[0].grad_norm, rel=1e-2)
    for a, b in zip(one, two, strict=True):
        assert asdict(b) == pytest.approx(asdict(a), rel=1e-5, abs=1e-7)
    expected, found = (load_file(tmp_path / name / "moments.safetensors") for name in ("one", "two"))
    for name, moment in expected.items():
        assert (found[name] - moment).norm() <= 1e-4 * moment.norm()
