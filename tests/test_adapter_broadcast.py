"""The adapter's way into the real engine: its arrival is proved, and a fault stops the run at once."""

from dataclasses import replace

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import load_question_sets
from floe.cluster.messages import GroupRequest
from floe.cluster.precision.resolved import with_recorded_precision
from floe.cluster.ray_actors.placement import put_blob, ray_session, start_rollout_pool, stored_adapter
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.configs.errors import AdapterProofError
from floe.configs.files.loading import load_config
from floe.learner.adapter.export import export_blob
from tests.command_line import REPOSITORY
from tests.peft_adapters import peft_logprobs, save_adapter

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def config(smoke_run):
    overrides = [f"run.home={smoke_run.home}", "cluster.address=local", "cluster.colocation=engine_sleeps"]
    settings = load_config(REPOSITORY / "configs" / "smoke.yaml", overrides)
    return with_recorded_precision(settings, smoke_run.run_dir)


@pytest.fixture(scope="module")
def pool(config, smoke_run):
    with ray_session(config.cluster, namespace="test-broadcast"):
        yield start_rollout_pool(config, smoke_run.home / "models" / "tiny-qwen2")


@pytest.fixture(scope="module")
def tensors(smoke_run):
    return load_file(smoke_run.run_dir / "adapters" / "latest" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def request_for(config, smoke_run):
    sets = load_question_sets(config.data, smoke_run.home / "demo")
    encoder = PromptEncoder(smoke_run.home / "models" / "tiny-qwen2", sets.databases_dir, config.prompt)

    def build(index: int, num_samples: int = 16, temperature: float = 1.0) -> GroupRequest:
        question = sets.tune[index]
        return GroupRequest(
            group_id=str(index), question=question, prompt_token_ids=encoder.prompt(question), num_samples=num_samples,
            temperature=temperature, max_new_tokens=24, seed=1000 * index,
        )  # fmt: skip

    return build


def test_receipt_counts_the_modules_and_versions_tell_adapters_apart(pool, config, tensors, request_for):
    first = export_blob(tensors, config.lora, 1, put_blob, config.rollout.dtype)
    (receipt,) = pool.install(first)
    assert (receipt.version, receipt.num_modules) == (1, len(tensors) // 2)
    louder = {name: tensor * 3 if "lora_B" in name else tensor for name, tensor in tensors.items()}
    (other,) = pool.install(export_blob(louder, config.lora, 2, put_blob, config.rollout.dtype))
    assert other.digest != receipt.digest
    request = request_for(0)
    base, one, two = (next(iter(pool.generate([request], version))).completions for version in (None, 1, 2))
    assert len({tuple(c.token_ids for c in group) for group in (base, one, two)}) == 3
    assert {c.oldest_adapter_version for c in two} == {2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_peft_wrote_is_computed_as_peft_does(pool, config, smoke_run, request_for, tmp_path, dtype):
    base, lora = smoke_run.home / "models" / "tiny-qwen2", config.lora
    options = {"r": lora.rank, "lora_alpha": lora.alpha, "target_modules": list(lora.target_modules)}
    assert lora.alpha != lora.rank
    folder = save_adapter(tmp_path / "adapter", base, dtype=dtype, **options)
    version = 9 if dtype == torch.float32 else 10
    pool.install(replace(stored_adapter(config, folder), version=version))
    text = request_for(0).prompt_token_ids
    (found,) = pool.canary_logprobs(text, version)
    expected, plain = (peft_logprobs(base, one, list(text)) for one in (folder, None))
    rounding = 1e-3 if config.rollout.dtype == "float32" else 0.3
    assert (torch.tensor(found) - expected).abs().max() < rounding
    assert (plain - expected).abs().max() > 10 * rounding


def test_random_streams_do_not_depend_on_company_or_order(pool, config, tensors, request_for):
    pool.install(export_blob(tensors, config.lora, 3, put_blob, config.rollout.dtype))
    alone = next(iter(pool.generate([request_for(1)], 3)))
    together = {g.seed: g for g in pool.generate([request_for(2), request_for(1), request_for(0)], 3)}
    again = together[alone.seed]
    assert [c.token_ids for c in alone.completions] == [c.token_ids for c in again.completions]
    assert [c.logprobs for c in alone.completions] == [c.logprobs for c in again.completions]
    assert len({c.token_ids for c in alone.completions}) > 1


def test_candidates_of_a_group_are_those_of_requests_for_one_each(pool, request_for):
    group = request_for(4)
    (together,) = pool.generate([group], None)
    singles = [
        replace(group, group_id=str(index), num_samples=1, seed=group.seed + index)
        for index in range(group.num_samples)
    ]
    alone = [next(iter(pool.generate([one], None))).completions[0] for one in singles]
    assert [c.token_ids for c in together.completions] == [c.token_ids for c in alone]
    assert len({c.token_ids for c in alone}) > 1
    assert [c.logprobs for c in together.completions] == [c.logprobs for c in alone]  # to the bit


def test_a_stop_text_ends_a_completion_and_only_the_limit_marks_it_as_truncated(pool, request_for):
    (handle,) = pool._handles
    one = request_for(5, num_samples=4)
    (free,) = pool.generate([one], None)
    assert all(c.truncated == (len(c.token_ids) == one.max_new_tokens) for c in free.completions)
    text = free.completions[0].text
    stop = text[len(text) // 2 :][:6]
    ray.get(handle.__ray_call__.remote(lambda actor: setattr(actor._engine, "_stop", [stop])))
    (stopped,) = pool.generate([one], None)
    ray.get(handle.__ray_call__.remote(lambda actor: setattr(actor._engine, "_stop", [])))
    for before, after in zip(free.completions, stopped.completions, strict=True):
        assert after.token_ids == before.token_ids[: len(after.token_ids)]
        assert len(after.logprobs) == len(after.token_ids)
        if stop in before.text:
            assert stop in after.text and not after.truncated
            assert len(after.text) <= before.text.index(stop) + len(stop) + 20  # the token that completes it
        else:
            assert after == before
    assert len(stopped.completions[0].token_ids) < len(free.completions[0].token_ids)


def test_a_groups_prompt_is_computed_once(pool, request_for):
    one = request_for(6)
    (group,) = pool.generate([one], None)
    num_tokens = len(one.prompt_token_ids)
    # The first candidate computes it, the others its last token.
    assert group.num_computed_prompt_tokens == num_tokens + one.num_samples - 1
    (again,) = pool.generate([replace(one, seed=7)], None)
    assert again.num_computed_prompt_tokens < group.num_computed_prompt_tokens


@pytest.mark.long
def test_by_folders_an_adapter_arrives_the_same_as_from_memory(pool, config, smoke_run, tensors, request_for):
    rollout = config.rollout.model_copy(update={"adapter_transport": "folder"})
    by_folder = start_rollout_pool(
        config.model_copy(update={"rollout": rollout}), smoke_run.home / "models" / "tiny-qwen2", "by-folder"
    )
    answers = []
    for way in (pool, by_folder):
        for version in (20, 21, 22):
            (receipt,) = way.install(export_blob(tensors, config.lora, version, put_blob, config.rollout.dtype))
        (group,) = way.generate([request_for(3)], 22)
        answers.append((receipt.num_modules, receipt.digest, [c.token_ids for c in group.completions]))
    renamed = {name.replace("self_attn", "elsewhere"): tensor for name, tensor in tensors.items()}
    with pytest.raises(AdapterProofError):
        by_folder.install(export_blob(renamed, config.lora, 23, put_blob, config.rollout.dtype))
    by_folder.stop()
    assert answers[0] == answers[1]


def test_flipped_byte_is_noticed(pool, config, tensors):
    manifest = export_blob(tensors, config.lora, 4, put_blob, config.rollout.dtype)
    blob = np.array(ray.get(manifest.blob_ref[0]))
    blob[-1] ^= 1
    with pytest.raises(AdapterProofError, match="digest"):
        pool.install(replace(manifest, blob_ref=put_blob(blob)))


def test_names_that_bind_nothing_are_noticed(pool, config, tensors):
    renamed = {name.replace("self_attn", "elsewhere"): tensor for name, tensor in tensors.items()}
    with pytest.raises(AdapterProofError, match="bind to nothing"):
        pool.install(export_blob(renamed, config.lora, 5, put_blob, config.rollout.dtype))


def test_missing_modules_are_noticed(pool, config, tensors):
    manifest = export_blob(tensors, config.lora, 6, put_blob, config.rollout.dtype)
    fewer = {name: tensor for name, tensor in tensors.items() if ".0.self_attn" not in name}
    half = export_blob(fewer, config.lora, 6, put_blob, config.rollout.dtype)
    with pytest.raises(AdapterProofError, match="modules bound"):
        pool.install(replace(half, num_modules=manifest.num_modules))


def test_an_adapter_of_another_rank_is_noticed(pool, config, tensors):
    wider = config.lora.model_copy(update={"rank": 2 * config.lora.rank})
    doubled = {
        name: torch.cat([tensor, tensor], dim=0 if "lora_A" in name else 1).contiguous()
        for name, tensor in tensors.items()
    }
    with pytest.raises(AdapterProofError, match="rank"):
        pool.install(export_blob(doubled, wider, 7, put_blob, config.rollout.dtype))


@pytest.fixture
def broken(pool):
    """Have the actor's engine install by another function, and restore it afterwards."""
    (handle,) = pool._handles

    def put_in(way) -> None:
        def replace_installed(actor) -> None:
            engine = actor._engine
            engine._installed = lambda manifest, blob: way(engine, manifest, blob)

        ray.get(handle.__ray_call__.remote(replace_installed))

    yield put_in
    ray.get(handle.__ray_call__.remote(lambda actor: actor._engine.__dict__.pop("_installed", None) and None))


def louder(tensors, factor):
    return {name: tensor * factor if "lora_B" in name else tensor for name, tensor in tensors.items()}


def test_an_install_that_was_dropped_is_noticed(pool, config, tensors, broken):
    (before,) = pool.install(export_blob(louder(tensors, 5), config.lora, 30, put_blob, config.rollout.dtype))
    broken(lambda engine, manifest, blob: {"num_modules": before.num_modules, "installed": before.digest})
    with pytest.raises(AdapterProofError, match=r"version 31: .* slots hold version 30, must hold"):
        pool.install(export_blob(louder(tensors, 6), config.lora, 31, put_blob, config.rollout.dtype))


def test_an_old_version_in_place_of_the_new_is_noticed(pool, config, tensors, broken):
    old = export_blob(louder(tensors, 7), config.lora, 32, put_blob, config.rollout.dtype)
    pool.install(old)
    old_blob = ray.get(old.blob_ref[0])
    broken(lambda engine, manifest, blob: type(engine)._installed(engine, manifest, old_blob.data))
    with pytest.raises(AdapterProofError, match=r"version 33: .* slots hold version 32, must hold"):
        pool.install(export_blob(louder(tensors, 8), config.lora, 33, put_blob, config.rollout.dtype))


def test_an_engine_that_was_away_generates_the_same_and_proves_every_version(pool, config, tensors, request_for):
    for version in (40, 41):
        pool.install(export_blob(louder(tensors, version / 10), config.lora, version, put_blob, config.rollout.dtype))
    before = [list(pool.generate([request_for(0)], version)) for version in (40, 41)]
    pool.release()
    pool.acquire()
    assert [list(pool.generate([request_for(0)], version)) for version in (40, 41)] == before
    receipts = ray.get(pool._handles[0].acquire.remote())
    assert [one.digest for one in receipts] == [manifest.slots_digest for manifest in pool.live_manifests()]


def test_an_adapter_that_is_lost_while_the_engine_is_away_is_noticed(pool, config, tensors):
    pool.install(export_blob(louder(tensors, 5), config.lora, 42, put_blob, config.rollout.dtype))
    pool.release()
    ray.get(pool._handles[0].__ray_call__.remote(lose_adapters))
    with pytest.raises(AdapterProofError, match=r"adapter version 4[12]: the receipt is for"):
        pool.acquire()


def lose_adapters(actor) -> None:
    """Lose them as vLLM has been seen to (vllm#53888): awake again, and the slots hold nothing."""

    def clear(worker) -> None:
        for module in worker.model_runner.lora_manager._adapter_manager.modules.values():
            for stacked in (*module.lora_a_stacked, *module.lora_b_stacked):
                stacked.zero_()

    actor._engine._engine.collective_rpc(clear)


def test_a_receipt_for_something_else_is_noticed(pool, config, tensors):
    old = export_blob(louder(tensors, 9), config.lora, 34, put_blob, config.rollout.dtype)
    (receipt,) = pool.install(old)

    class Forgetful:
        def install(self, manifest, blob):
            return receipt

    lazy = RolloutPool([ray.remote(Forgetful).options(num_cpus=0).remote()], 60.0, lambda *_: None, 2)
    with pytest.raises(AdapterProofError, match="version 35: the receipt is for version 34"):
        lazy.install(export_blob(louder(tensors, 9), config.lora, 35, put_blob, config.rollout.dtype))
    lazy.stop()


def test_version_that_is_not_installed_is_refused(pool, request_for):
    with pytest.raises(AdapterProofError, match="version 99"):
        list(pool.generate([request_for(0)], 99))
