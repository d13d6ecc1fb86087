"""Every name of vLLM that floe takes is there, with its parameters: in the installed build, or in an unpacked wheel.

`FLOE_VLLM_SOURCES=FOLDER` checks another one (tests/vllm_sources.py), such as that for GPUs on a machine without one.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.vllm_sources import (
    REPOSITORY,
    attributes_of,
    bases_of,
    class_of,
    functions_of,
    module,
    parameters_of,
    sources,
)

CONNECTOR = "vllm.distributed.kv_transfer.kv_connector.v1.base.KVConnectorBase_V1"
# Functions, and the parameters that floe passes by name or by their place.
CALLED = {
    "vllm.v1.engine.llm_engine.LLMEngine.from_engine_args": ["engine_args"],
    "vllm.v1.engine.llm_engine.LLMEngine.add_request": ["request_id", "prompt", "params", "lora_request"],
    "vllm.v1.engine.llm_engine.LLMEngine.abort_request": ["request_ids"],
    "vllm.v1.engine.llm_engine.LLMEngine.step": [],
    "vllm.v1.engine.llm_engine.LLMEngine.sleep": ["level"],
    "vllm.v1.engine.llm_engine.LLMEngine.wake_up": [],
    "vllm.v1.engine.llm_engine.LLMEngine.get_tokenizer": [],
    "vllm.v1.engine.llm_engine.LLMEngine.collective_rpc": ["method", "args"],
    "vllm.entrypoints.llm.LLM.from_engine_args": ["engine_args"],
    "vllm.entrypoints.llm.LLM.generate": ["prompts", "sampling_params", "use_tqdm", "lora_request"],
    "vllm.lora.lora_model.LoRAModel.from_lora_tensors": ["lora_model_id", "tensors", "peft_helper", "device", "dtype"],
    "vllm.lora.peft_helper.PEFTHelper.from_dict": ["config_dict"],
    "vllm.lora.peft_helper.PEFTHelper.validate_legal": ["lora_config"],
    "vllm.lora.worker_manager.WorkerLoRAManager.list_adapters": [],
    "vllm.lora.worker_manager.LRUCacheWorkerLoRAManager.add_adapter": ["lora_request"],
    "vllm.lora.model_manager.LoRAModelManager.add_adapter": ["adapter"],
    "vllm.lora.model_manager.LRUCacheLoRAModelManager.activate_adapter": ["lora_id"],
    "vllm.lora.model_manager.LoRAModelManager.remove_adapter": ["adapter_id"],
    "vllm.lora.model_manager.LoRAModelManager.get_adapter": ["adapter_id"],
    "vllm.lora.model_manager.LoRAModelManager.list_adapters": [],
    "vllm.model_executor.models.registry._ModelRegistry.get_supported_archs": [],
    "vllm.platforms.interface.Platform.is_cpu": [],
    "vllm.v1.core.kv_cache_manager.KVCacheManager.get_block_ids": ["request_id"],
    "vllm.v1.core.kv_cache_manager.KVCacheBlocks.get_block_ids": [],
    "vllm.v1.request.Request.is_finished": [],
    f"{CONNECTOR}.__init__": ["vllm_config", "role", "kv_cache_config"],
    f"{CONNECTOR}._get_connector_metadata": [],
}
# Classes, and what floe sets or reads of them.
HELD = {
    "vllm.sampling_params.SamplingParams": [
        "n", "temperature", "seed", "max_tokens", "logprobs", "prompt_logprobs", "stop", "include_stop_str_in_output",
        "detokenize", "output_kind",
    ],
    "vllm.sampling_params.RequestOutputKind": ["FINAL_ONLY"],
    "vllm.engine.arg_utils.EngineArgs": [
        "model", "dtype", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill",
        "enable_prefix_caching", "enable_lora", "max_loras", "max_cpu_loras", "max_lora_rank", "logprobs_mode",
        "generation_config", "worker_extension_cls", "kv_transfer_config", "disable_log_stats", "enforce_eager",
        "enable_sleep_mode", "seed", "distributed_executor_backend", "block_size", "kv_cache_memory_bytes",
        "gpu_memory_utilization",
    ],
    "vllm.config.kv_transfer.KVTransferConfig": ["kv_connector", "kv_connector_module_path", "kv_role"],
    "vllm.lora.request.LoRARequest": ["lora_name", "lora_int_id", "lora_path"],
    "vllm.outputs.RequestOutput": ["request_id", "finished", "outputs", "prompt_logprobs"],
    "vllm.outputs.CompletionOutput": ["index", "token_ids", "logprobs", "finish_reason"],
    "vllm.v1.engine.llm_engine.LLMEngine": ["engine_core"],
    "vllm.v1.engine.core_client.InprocClient": ["engine_core"],
    "vllm.v1.engine.core.EngineCore": ["batch_queue"],
    "vllm.v1.core.sched.output.SchedulerOutput": ["num_scheduled_tokens"],
    "vllm.v1.kv_cache_interface.KVCacheConfig": ["num_blocks"],
    "vllm.config.cache.CacheConfig": ["block_size"],
    "vllm.config.lora.LoRAConfig": ["lora_dtype"],
    "vllm.v1.request.Request": [
        "request_id", "prompt_token_ids", "num_prompt_tokens", "num_computed_tokens", "num_preemptions", "lora_request",
    ],
    CONNECTOR: ["_kv_cache_manager", "_kv_cache_config", "requires_kv_delivery"],
    "vllm.distributed.kv_transfer.kv_connector.v1.base.KVConnectorRole": ["SCHEDULER", "WORKER"],
    "vllm.lora.worker_manager.WorkerLoRAManager": ["_adapter_manager", "lora_config"],
    "vllm.lora.model_manager.LoRAModelManager": ["capacity", "lora_index_to_id", "modules", "packed_modules_mapping"],
    "vllm.lora.layers.base_linear.BaseLinearLayerWithLoRA": ["lora_a_stacked", "lora_b_stacked"],
    "vllm.v1.worker.lora_model_runner_mixin.LoRAModelRunnerMixin": ["lora_manager"],
    "vllm.v1.worker.gpu_worker.Worker": ["model_runner"],
    "vllm.v1.worker.gpu_model_runner.GPUModelRunner": ["model"],
    "vllm.v1.worker.gpu.model_runner.GPUModelRunner": ["model"],
}  # fmt: skip
# Which class floe replaces parts of, and by which functions of its own.
REPLACED = {
    "vllm.lora.punica_wrapper.punica_base.PunicaWrapperBase.update_metadata": "_update_metadata",
    "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU.add_lora_linear": "_add_lora_linear",
    "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU.add_lora_logits": "_add_lora_logits",
}
WORKERS = ["vllm.v1.worker.gpu_worker.Worker", "vllm.v1.worker.worker_base.WorkerBase"]
RUNNERS = ["vllm.v1.worker.gpu.model_runner.GPUModelRunner", "vllm.v1.worker.gpu_model_runner.GPUModelRunner"]


def own_class(name: str) -> ast.ClassDef:
    return class_of(name, REPOSITORY)


@pytest.mark.parametrize("dotted", CALLED)
def test_what_is_called_takes_what_is_passed(dotted):
    owner, _, name = dotted.rpartition(".")
    functions = functions_of(class_of(owner))
    assert name in functions
    assert set(CALLED[dotted]) <= set(parameters_of(functions[name]))


@pytest.mark.parametrize("dotted", HELD)
def test_what_is_read_or_set_is_there(dotted):
    assert set(HELD[dotted]) <= attributes_of(class_of(dotted))


def test_engine_arguments_are_all_in_the_list():
    tree = module("floe.actors.engine.vllm_engine_args", REPOSITORY)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "EngineArgs"]
    passed = {keyword.arg for call in calls for keyword in call.keywords}
    passed |= set(re.findall(r"arguments\.(\w+) = ", ast.unparse(tree)))
    assert passed == set(HELD["vllm.engine.arg_utils.EngineArgs"])


def test_the_connector_overrides_with_the_same_parameters_and_leaves_nothing_abstract():
    base, own = (
        functions_of(class_of(CONNECTOR)),
        functions_of(own_class("floe.actors.engine.vllm_prompt_sharing.PromptSharing")),
    )
    shared = set(base) & set(own)
    assert {name: parameters_of(base[name]) for name in shared} == {name: parameters_of(own[name]) for name in shared}
    abstract = {name for name, node in base.items() if "abstractmethod" in map(ast.unparse, node.decorator_list)}
    assert abstract and abstract <= set(own)


@pytest.mark.parametrize("dotted", REPLACED)
def test_a_replacement_takes_the_same_parameters(dotted):
    owner, _, name = dotted.rpartition(".")
    body = module("floe.actors.engine.vllm_single_adapter", REPOSITORY).body
    own = next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == REPLACED[dotted])
    assert parameters_of(own) == parameters_of(functions_of(class_of(owner))[name])


def test_the_workers_extension_hides_nothing_of_the_worker():
    """Otherwise vLLM refuses to start."""
    own = attributes_of(own_class("floe.actors.engine.vllm_adapter_slots.AdapterSlots"))
    for dotted in WORKERS:
        assert not own & attributes_of(class_of(dotted)), dotted


@pytest.mark.parametrize("dotted", RUNNERS)
def test_both_model_runners_hold_adapters_in_the_same_way(dotted):
    assert "LoRAModelRunnerMixin" in bases_of(class_of(dotted))


def test_variables_of_the_engines_environment_are_known():
    known = (sources() / "vllm" / "envs.py").read_text(encoding="utf-8")
    used = set(
        re.findall(
            r'"(VLLM_\w+)"', (REPOSITORY / "cluster" / "ray_actors" / "placement.py").read_text(encoding="utf-8")
        )
    )
    assert used and not {name for name in used if f'"{name}": lambda' not in known}
