"""vLLM's offline entry point, `LLM.generate`, as a yardstick for the rollout engine; nothing streams here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform

from floe.actors.engine.vllm_engine_args import engine_args
from floe.actors.engine.vllm_lone_row import leave_amx_out
from floe.actors.engine.vllm_single_adapter import install_single_adapter_path
from floe.cluster.messages import GroupRequest
from floe.configs.schema import RunConfig


class OfflineLlm:
    """Runs the same model, options and adapter as the engine, with its LoRA path or with vLLM's own."""

    def __init__(self, config: RunConfig, model_dir: Path, stock_lora: bool, is_masked: bool) -> None:
        """Start vLLM; with `is_masked` no library uses AMX, without which vLLM's AMX kernels end the process."""
        if is_masked:
            leave_amx_out()
        if current_platform.is_cpu() and not stock_lora:
            install_single_adapter_path()
        arguments = engine_args(model_dir, config.model, config.rollout, config.lora, current_platform.is_cpu())
        self._llm = LLM.from_engine_args(arguments)

    def ping(self) -> bool:
        return True

    def num_generated_tokens(self, requests: Sequence[GroupRequest], adapter_dir: Path | None) -> int:
        """Generate every request's group in one call; return the number of tokens."""
        adapter = None if adapter_dir is None else LoRARequest("bench", 1, str(adapter_dir))
        sampling = [
            SamplingParams(
                n=request.num_samples,
                temperature=request.temperature,
                seed=request.seed,
                max_tokens=request.max_new_tokens,
                logprobs=0,
                detokenize=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt_token_ids)} for request in requests]
        outputs = self._llm.generate(prompts, sampling, lora_request=adapter, use_tqdm=False)
        return sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
