"""`make prove-gpu`: what each part finds, on a CPU or with a card's answers made up, and that its checks can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import AutoConfig

from floe.cluster.machine.card_figures import CardFigures, figures_of, slug_of, write_figures
from floe.cluster.prove.gpu import attention, card_part, cuda, learner_alone, tiny_policy
from floe.cluster.prove.gpu.findings import (
    Figures,
    Line,
    PartResult,
    Setting,
    Verdict,
    at_least,
    at_most,
    not_here,
    told,
    without_packages,
)
from floe.cluster.prove.gpu.record import ProofRecord
from floe.cluster.time_plan.update_flops import ModelSizes, update_flops, work_of
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.sections.colocation import Colocation
from tests.command_line import REPOSITORY


@pytest.fixture
def setting(tmp_path) -> Setting:
    return Setting(
        device="cpu", is_quick=True, home_dir=tmp_path / "home", scratch_dir=tmp_path, tokenizer_dir=tmp_path / "none"
    )


def verdicts(lines) -> dict[str, Verdict]:
    return {line.name: line.verdict for line in lines}


# What the parts find.


def test_attention_is_as_its_definition_at_every_head_size(setting):
    found = verdicts(attention.prove(setting))
    assert set(found.values()) == {Verdict.PASSED, Verdict.NOT_HERE}
    for size in attention.HEAD_SIZES:
        for name in ("merged attention", *(f"attention of a pack, {one}" for one in attention.QUICK.packs)):
            for way in ("forward", "gradient"):
                assert found[f"{name}, heads of {size}, {way}"] is Verdict.PASSED


def test_a_prefix_that_weighs_too_much_is_found(setting, monkeypatch):
    own = attention.merged_attention

    def heavier(*given):
        *others, prefix_values, scaling = given
        return own(*others, 1.001 * prefix_values, scaling)

    monkeypatch.setattr(attention, "merged_attention", heavier)
    found = verdicts(attention.prove(setting))
    failed = {name for name, verdict in found.items() if verdict is Verdict.FAILED}
    assert failed and all(name.startswith("merged attention") for name in failed)


def test_a_completion_that_sees_another_is_found(setting, monkeypatch):
    monkeypatch.setattr(attention, "seen_pairs", lambda groups: torch.ones(1, 1, dtype=torch.bool))
    assert Verdict.FAILED in verdicts(attention.prove(setting)).values()


def test_seen_pairs_are_those_of_the_own_completion_and_its_prefix():
    seen = attention.seen_pairs([(2, (1, 2)), (1, (1,))])
    wanted = ["1000000", "1100000", "1110000", "1101000", "1101100", "0000010", "0000011"]
    assert ["".join(str(int(one)) for one in row) for row in seen] == wanted


@pytest.fixture
def without_deepspeed(monkeypatch):
    monkeypatch.setattr(learner_alone, "is_installed", lambda name: name != "deepspeed")


def test_the_learner_alone_is_as_the_model_itself_and_names_deepspeed_where_that_is_missing(setting, without_deepspeed):
    lines = {line.name: line for line in learner_alone.prove(setting)}
    zero = next(line for name, line in lines.items() if "ZeRO-2" in name)
    assert (zero.verdict, zero.why) == (Verdict.NOT_HERE, "the package deepspeed is not installed")
    passed = {name for name, line in lines.items() if line.verdict is Verdict.PASSED}
    assert len(passed) == 5 and {line.verdict for line in lines.values()} == {Verdict.PASSED, Verdict.NOT_HERE}


@pytest.mark.parametrize(
    ("attribute", "broken", "name"),
    [
        (
            "packed_loss",
            lambda policy, groups: 1.01 * tiny_policy.packed_loss(policy, groups),
            "the model's own forward",
        ),
        ("read_adapter", lambda folder, lora: None, "saved and loaded"),
    ],
    ids=["loss", "adapter"],
)
def test_a_learner_that_is_off_is_found(setting, monkeypatch, attribute, broken, name):
    monkeypatch.setattr(learner_alone, attribute, broken)
    model_dir = tiny_policy.write_tiny(setting.scratch_dir / "tiny", 1)
    if attribute == "read_adapter":
        other = learner_alone.policy_of
        monkeypatch.setattr(
            learner_alone, "policy_of", lambda *given: louder(other(*given[:3])) if len(given) == 4 else other(*given)
        )
        lines = list(learner_alone._save_and_load(model_dir, torch.device("cpu"), setting.scratch_dir / "adapter"))
    else:
        lines = list(learner_alone._against_the_model(model_dir, torch.device("cpu"), False))
    assert {line.verdict for line in lines if name in line.name} == {Verdict.FAILED}


def louder(policy):
    with torch.no_grad():
        for tensor in tiny_policy.trained(policy).values():
            tensor.mul_(1.5)
    return policy


def test_in_bfloat16_the_positions_keep_their_precision(setting):
    model_dir = tiny_policy.write_tiny(setting.scratch_dir / "tiny", 1)
    policy = tiny_policy.policy_of(model_dir, torch.device("cpu"), "bfloat16")
    assert {one.dtype for one in policy.parameters()} == {torch.bfloat16}
    assert {one.dtype for one in policy.buffers() if one.is_floating_point()} == {torch.float32}


@pytest.mark.engine
@pytest.mark.long
def test_zero_2_updates_as_pytorchs_adamw(setting):
    model_dir = tiny_policy.write_tiny(setting.scratch_dir / "tiny", 1)
    program = (
        "import sys, torch; from pathlib import Path; from floe.cluster.prove.gpu.learner_alone import _zero\n"
        "print(*(line.verdict for line in _zero(Path(sys.argv[1]), torch.device('cpu'))))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(model_dir)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.split()[-1:] == ["PASSED"], done.stdout + done.stderr


# What a part says, and the card's figures.


def test_a_figure_beyond_its_limit_or_none_at_all_fails():
    assert at_most("x", 1.0, 1.0).verdict is Verdict.PASSED and at_most("x", 1.1, 1.0).verdict is Verdict.FAILED
    assert at_least("x", 1.0, 1.0).verdict is Verdict.PASSED and at_least("x", 0.9, 1.0).verdict is Verdict.FAILED
    for check in (at_most, at_least):
        assert check("x", float("nan"), 1.0).verdict is Verdict.FAILED
    assert at_most("growth", 3, 64, " MiB").shown() == "growth: 3 MiB (at most 64 MiB)  PASSED"
    assert not_here("graphs", "a CPU has none").shown() == "graphs  not here (a CPU has none)"


def test_packages_that_are_missing_are_named():
    assert without_packages("x", ("vllm",)).why == "the package vllm is not installed"
    assert without_packages("x", ("ray", "vllm")).why == "the packages ray and vllm are not installed"


def test_a_parts_verdict_is_its_worst():
    passed, failed, absent = told("a", "1"), at_most("b", 2, 1), not_here("c", "no")
    assert PartResult([passed, absent]).verdict is Verdict.PASSED
    assert PartResult([passed, failed]).verdict is Verdict.FAILED
    assert PartResult([absent]).verdict is Verdict.NOT_HERE
    assert PartResult([]).verdict is Verdict.FAILED


def test_the_cards_figures_are_written_as_the_memory_plan_reads_them(tmp_path):
    figures = figures_of("NVIDIA A10", {"cuda_context_bytes": 5e8, "allocator_slack_share": 0.04, "other": 1})
    path = write_figures(tmp_path, figures)
    assert path == tmp_path / "gpu" / "nvidia-a10.json"
    found = json.loads(path.read_text())
    assert CardFigures(**found) == figures
    assert (found["cuda_context_bytes"], found["allocator_slack_share"]) == (500_000_000, 0.04)
    assert "nccl_bytes" not in found and "other" not in found
    later = figures_of("NVIDIA A10", {"cuda_context_bytes": 4e8, "nccl_bytes": 7, "cuda_graphs_bytes": -1})
    found = json.loads(write_figures(tmp_path, later).read_text())
    assert (found["cuda_context_bytes"], found["nccl_bytes"], found["allocator_slack_share"]) == (400_000_000, 7, 0.04)
    assert "cuda_graphs_bytes" not in found
    path.write_text("{")
    assert "allocator_slack_share" not in json.loads(write_figures(tmp_path, later).read_text())


def test_a_cards_name_becomes_a_files():
    assert slug_of("NVIDIA GeForce RTX 4090") == "nvidia-geforce-rtx-4090"


def test_waits_are_counted_by_pytorchs_own_warnings_and_its_mode_is_put_back(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with cuda.counted_synchronisations() as found:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert (found.count, modes) == (3, ["warn", "default"])


def test_the_most_that_is_used_of_a_card_is_counted_beyond_what_was_before(monkeypatch):
    readings, are_all_taken = [150, 400, 200], threading.Event()

    def used_bytes() -> int:
        if readings:
            return readings.pop(0)
        are_all_taken.set()
        return 200

    monkeypatch.setattr(cuda, "SAMPLE_EVERY_S", 0.0)
    monkeypatch.setattr(cuda, "used_bytes", used_bytes)
    with cuda.UsedPeak(100) as peak:
        assert are_all_taken.wait(60)
    assert peak.num_bytes == 300


def test_a_card_is_told_with_its_context_and_what_cuda_gives_of_it(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=0: (20 * 2**30, 22 * 2**30))
    monkeypatch.setattr(card_part, "idle_context_bytes", lambda: (2**29, 2**25))
    monkeypatch.setattr(card_part, "is_installed", lambda name: False)
    found = list(card_part._card())
    lines = {one.name: one for one in found if isinstance(one, Line)}
    values = {name: value for one in found if isinstance(one, Figures) for name, value in one.values.items()}
    assert values == {"usable_bytes": 22 * 2**30, "cuda_context_bytes": 2**29, "cublas_workspace_bytes": 2**25}
    assert lines["CUDA's total against NVML's"].why == "the package nvidia-ml-py is not installed"
    assert lines["a process's context"].verdict is Verdict.PASSED
    monkeypatch.setattr(card_part, "idle_context_bytes", lambda: (2**31, 0))
    assert verdicts(one for one in card_part._card() if isinstance(one, Line))["a process's context"] is Verdict.FAILED


def test_addresses_beyond_loopback_are_found():
    from floe.cluster.prove.gpu.two_ranks import listeners_beyond_loopback

    def process(*addresses: str) -> SimpleNamespace:
        found = [SimpleNamespace(status=psutil.CONN_LISTEN, laddr=SimpleNamespace(ip=ip, port=7)) for ip in addresses]
        return SimpleNamespace(net_connections=lambda kind: found, name=lambda: "rank")

    root = SimpleNamespace(children=lambda recursive: [process("127.0.0.1", "::1"), process("0.0.0.0")])
    assert listeners_beyond_loopback(root) == ["0.0.0.0:7 of rank"]


def test_a_context_is_what_another_process_takes_beside_what_its_tensors_hold(monkeypatch):
    program = 'import sys; print(\'{"reserved": 30, "workspace": 8}\', flush=True); sys.stdin.read()'
    readings = iter([1000, 1530])
    monkeypatch.setattr(card_part, "module_command", lambda module: [sys.executable, "-c", program])
    monkeypatch.setattr(card_part, "used_bytes_beside_context", lambda: next(readings))
    assert card_part.idle_context_bytes() == (500, 8)


def test_what_a_card_is_asked_for_are_valid_configurations(setting, tmp_path):
    from floe.cluster.prove.gpu import full_shape, runs, start_race, two_ranks
    from floe.cluster.prove.gpu.engine_under_proof import SMOKE, smoke_config

    on_card = replace(setting, device="cuda")
    assert smoke_config(on_card, "cluster.colocation=engine_sleeps").rollout.num_gpus == 1
    ranks = two_ranks.config_of(on_card, 2)
    assert (ranks.learner.num_ranks, ranks.learner.num_gpus, ranks.rollout.num_gpus) == (2, 1, 0)
    for colocation in Colocation:
        found = load_config(SMOKE, runs.placement_overrides(on_card, colocation))
        assert found.cluster.colocation is colocation and found.rollout.num_gpus + found.learner.num_gpus == 1
    race = start_race.config_of(on_card)
    assert race.cluster.colocation is Colocation.RESIDENT and race.rollout.num_gpus + race.learner.num_gpus == 1
    training = load_config(full_shape.FULL_CONFIG, runs.training_overrides(on_card, tmp_path, 3))
    assert (training.reward.design, training.run.num_steps, training.model.path) == ("proof", 3, str(tmp_path))


def test_a_full_pack_and_a_full_batch_are_as_large_as_the_configuration_allows(setting, tmp_path):
    from floe.cluster.prove.gpu import full_shape

    config = load_config(full_shape.FULL_CONFIG, full_shape.full_overrides(replace(setting, device="cuda"), tmp_path))
    group = full_shape._full_group(config).rollout
    num_tokens = len(group.prompt_token_ids) + sum(len(one.token_ids) for one in group.completions)
    assert 0 <= config.learner.max_pack_tokens - num_tokens < full_shape.GROUP_SIZE
    requests = full_shape._requests(config)
    assert sum(one.num_samples for one in requests) == config.rollout.max_num_seqs
    assert {len(one.prompt_token_ids) for one in requests} == {config.max_prompt_tokens}


def test_a_phase_that_holds_more_than_the_plan_says_is_found(monkeypatch):
    from floe.cluster.memory_plan.phases import Phase
    from floe.cluster.prove.gpu import full_shape

    for held_bytes, verdict in ((104, Verdict.PASSED), (96, Verdict.PASSED), (120, Verdict.FAILED)):
        peak = SimpleNamespace(num_bytes=held_bytes)
        monkeypatch.setattr(full_shape, "UsedPeak", lambda before, peak=peak: nullcontext(peak))
        worked: list[bool] = []
        (_, line) = full_shape._held(
            Phase.LEARNING, {Phase.LEARNING: 100}, 0, lambda worked=worked: worked.append(True)
        )
        assert line.verdict is verdict and worked == [True]


def test_an_updates_operations_are_those_of_its_packs(tmp_path):
    from floe.cluster.prove.gpu.full_shape import update_flop
    from floe.learner.packing.packs import Branch, PrefixGroup, make_packs

    config, folder = load_config(None), tiny_policy.write_tiny(tmp_path / "tiny", 2)
    branches = (Branch(token_ids=(1,) * 60, weight=1.0),) * 16
    packs = make_packs([PrefixGroup(prefix_ids=(1,) * 200, branches=branches)] * 3, 10**9)
    record = {"num_groups": 3, "prompt_tokens": 600, "mean_completion_tokens": 60.0, "trained_tokens": 3 * 16 * 60}
    wanted = update_flops(ModelSizes.of(AutoConfig.from_pretrained(folder), config.lora), work_of(packs)).total
    assert update_flop(config, folder, record) == pytest.approx(wanted, rel=1e-3)


def test_two_answers_are_compared_up_to_the_first_other_token():
    from floe.cluster.prove.gpu.engine_under_proof import Differences

    def group(*completions) -> SimpleNamespace:
        return SimpleNamespace(
            seed=5, completions=[SimpleNamespace(token_ids=ids, logprobs=logprobs) for ids, logprobs in completions]
        )

    one = group(((1, 2, 3), (-1.0, -2.0, -3.0)), ((4, 5), (-1.0, -1.0)))
    other = group(((1, 2, 9), (-1.0, -2.5, -9.0)), ((4,), (-1.0,)))
    assert Differences.between([one], [other]) == Differences(
        num_tokens=5, num_common=3, mean_nats=0.5 / 3, max_nats=0.5
    )
    assert Differences.between([one], [one]) == Differences(num_tokens=5, num_common=5, mean_nats=0.0, max_nats=0.0)


# That each part's check can fail.


def test_an_engine_that_ignores_an_adapter_is_found():
    from floe.cluster.prove.gpu.engine_alone import LearnersSide, _canary

    manifest = SimpleNamespace(version=1, slots_digest="a" * 32)
    learner = LearnersSide(base=[-1.0, -2.0], adapter=[-1.5, -2.5], manifest=manifest, probe=SimpleNamespace(version=2))

    def found(adapted: list[float], digest: str) -> set[str]:
        answers = iter([[-1.0, -2.0], [-4.0, -5.0], adapted])
        pool = SimpleNamespace(
            canary_logprobs=lambda text, version: [next(answers)],
            install=lambda manifest: [SimpleNamespace(digest=digest)],
        )
        return {line.name for line in _canary(pool, [1, 2, 3], learner) if line.verdict is Verdict.FAILED}

    assert found([-1.5, -2.5], "a" * 32) == set()
    assert found([-1.0, -2.0], "a" * 32) == {"canary, adapter: engine and learner"}
    assert found([-1.5, -2.5], "b" * 32) == {"digest of the adapter's slots"}


class SleepingPool:
    """Pool of two groups: the first ends by itself, the second by its length."""

    def __init__(self, truncated: tuple[bool, bool] = (False, True)) -> None:
        self.calls: list[str] = []
        self._groups = [
            SimpleNamespace(completions=[SimpleNamespace(truncated=one, text="SELECT 1")]) for one in truncated
        ]

    def generate(self, requests, version):
        self.calls.append("generate")
        return iter(self._groups)

    def install(self, manifest) -> None: ...

    def release(self) -> None:
        self.calls.append("release")

    def acquire(self) -> None:
        self.calls.append("acquire")


@pytest.mark.parametrize(
    ("held_mib", "truncated", "failed"),
    [
        ([100, 300, 310, 305], (False, True), set()),
        (
            [100, 300, 400, 500],
            (False, True),
            {"growth of the resident memory of the engine's process from round 2 on"},
        ),
        ([100, 300, 300, 300], (False, False), {"completions that ended by their length"}),
        ([100, 300, 300, 300], (True, True), {"completions that ended by a text or the end token"}),
    ],
)
def test_an_engine_that_grows_from_round_to_round_is_found(setting, monkeypatch, held_mib, truncated, failed):
    from floe.cluster.messages import GroupRequest, Question
    from floe.cluster.prove.gpu import sleeping

    question = Question(question_id="q", database_id="d", text="", gold_sql=("SELECT 1",))
    request = GroupRequest(
        group_id="q", question=question, prompt_token_ids=(1, 2), num_samples=1, temperature=1.0, max_new_tokens=9,
        seed=0,
    )  # fmt: skip
    pool, held = SleepingPool(truncated), iter(held_mib)
    demo = SimpleNamespace(model_dir=None, requests=(request, request))
    answers = {sleeping.resident_bytes: lambda: next(held) * 2**20, sleeping.set_stop: lambda texts: None}
    monkeypatch.setattr(sleeping.Demo, "of", lambda *_: demo)
    monkeypatch.setattr(sleeping, "ray_session", lambda *_: nullcontext())
    monkeypatch.setattr(sleeping, "engine", lambda *_: nullcontext((pool, None)))
    monkeypatch.setattr(sleeping, "learners_side", lambda *_: SimpleNamespace(manifest=None))
    monkeypatch.setattr(sleeping, "ask", lambda handle, asked, *given: answers[asked](*given))
    lines = list(sleeping.prove(setting))
    assert {line.name for line in lines if line.verdict is Verdict.FAILED} == failed
    assert pool.calls == ["generate", "release", "acquire"] * 4


def test_a_kv_cache_of_another_size_at_one_start_is_found(setting, monkeypatch):
    from floe.cluster.prove.gpu import start_race

    sizes = iter([4096, 4096, 4096, 4080])
    monkeypatch.setattr(start_race, "_kv_tokens", lambda config: next(sizes))
    assert [line.verdict for line in start_race.prove(setting)] == [Verdict.PASSED, Verdict.PASSED]
    assert [line.verdict for line in start_race.prove(setting)] == [Verdict.PASSED, Verdict.FAILED]


@pytest.mark.parametrize(
    ("num_killed", "num_steps", "mismatch", "failed"),
    [
        (1, 4, 0.01, set()),
        (0, 4, 0.01, {"engines killed"}),
        (1, 3, 0.01, {"steps done"}),
        (1, 4, 0.5, {"engine against learner"}),
    ],
)
def test_a_placement_that_loses_steps_or_kills_nothing_is_found(
    setting, monkeypatch, num_killed, num_steps, mismatch, failed
):
    from floe.cluster.prove.gpu import runs

    def train(config_file, run_dir, overrides, kills_engine) -> int:
        run_dir.mkdir()
        record = json.dumps({"logprob_mismatch_mean": mismatch})
        (run_dir / runs.METRICS_FILE).write_text(f"{record}\n" * num_steps + record[:5])
        return num_killed

    monkeypatch.setattr(runs, "_train", train)
    lines = list(runs.prove_placements(setting))
    found = {line.name for line in lines if line.verdict is Verdict.FAILED}
    assert found == {f"{one.value}: {name}" for one in Colocation for name in failed}


def test_in_a_short_proof_a_card_has_the_placement_that_gives_up_most(setting, monkeypatch):
    from floe.cluster.prove.gpu import runs

    monkeypatch.setattr(runs, "_train", lambda config_file, run_dir, overrides, kills_engine: 1)
    monkeypatch.setattr(runs, "_records", lambda run_dir: [{"logprob_mismatch_mean": 0.0}] * runs.NUM_STEPS)
    for device, is_quick, num_runs in (("cuda", True, 1), ("cuda", False, 3), ("cpu", True, 3)):
        lines = list(runs.prove_placements(replace(setting, device=device, is_quick=is_quick)))
        assert sum(line.name.endswith("steps done") for line in lines) == num_runs


def test_random_weights_without_the_tokenizer_name_what_is_missing(setting):
    from floe.cluster.prove.gpu.full_shape import random_weights

    with pytest.raises(UserError, match=r"config-0\.5b-instruct\.json: give --tokenizer"):
        random_weights(setting)


@pytest.mark.parametrize(("grad_norm", "address", "num_failed"), [(2.0, [], 0), (2.1, [], 2), (2.0, ["0.0.0.0:1"], 1)])
def test_ranks_that_update_otherwise_or_listen_to_all_are_found(setting, monkeypatch, grad_norm, address, num_failed):
    from floe.cluster.prove.gpu import two_ranks

    def start(config, model_dir, adapter) -> SimpleNamespace:
        norm = 2.0 if config.learner.num_ranks == 1 else grad_norm
        report = SimpleNamespace(loss=0.5, grad_norm=norm)
        return SimpleNamespace(update=lambda step, groups: report, stop=lambda: None)

    requests = [SimpleNamespace(prompt_token_ids=tuple(range(150)))] * len(two_ranks.LENGTHS)
    monkeypatch.setattr(two_ranks.Demo, "of", lambda *_: SimpleNamespace(model_dir=None, requests=requests))
    monkeypatch.setattr(two_ranks, "ray_session", lambda *_: nullcontext())
    monkeypatch.setattr(two_ranks, "start_learner", start)
    monkeypatch.setattr(two_ranks, "listeners_beyond_loopback", lambda root: address)
    lines = list(two_ranks.prove(setting))
    assert sum(line.verdict is Verdict.FAILED for line in lines) == num_failed
    monkeypatch.setattr(two_ranks, "_num_gpus", lambda: 1)
    (line,) = two_ranks.prove(replace(setting, device="cuda"))
    assert line.why == "this machine has one card"


@pytest.mark.engine
@pytest.mark.long
def test_the_parts_with_an_engine_pass_on_a_cpu(other_home, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "floe.cluster.prove.gpu", "--device", "cpu", "--quick", "--parts", "4,6",
         "--home", str(other_home), "--out", str(tmp_path / "proof.json")],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    logs = "".join(path.read_text(errors="replace")[-3000:] for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    found = ProofRecord.read(tmp_path / "proof.json", "cpu").results
    assert {number: result.verdict for number, result in found.items()} == {4: Verdict.PASSED, 6: Verdict.PASSED}
    assert {"model runner", "scheduler", "KV cache"} <= {line.name for line in found[4].lines}
