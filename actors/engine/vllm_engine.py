"""The rollout engine: vLLM in this process, groups in, finished groups out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import vllm
from transformers import AutoConfig
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine
from xxhash import xxh3_128_hexdigest

from floe.actors.engine.adapter_blob import adapter_folder, module_names, tensors_of
from floe.actors.engine.vllm_engine_args import engine_args, vllm_version
from floe.actors.engine.vllm_lone_row import leave_amx_out
from floe.actors.engine.vllm_prompt_sharing import KNOWN_VERSIONS as VERSIONS_OF_PROMPT_SHARING
from floe.actors.engine.vllm_prompt_sharing import PromptSharing
from floe.actors.engine.vllm_single_adapter import KNOWN_VERSIONS, install_single_adapter_path
from floe.cluster.messages import AdapterManifest, AdapterReceipt, Completion, GroupRequest, RolloutGroup
from floe.configs.errors import AdapterProofError, UserError
from floe.configs.model_families import engine_refusal
from floe.configs.plugins.kinds import FAMILIES
from floe.configs.plugins.making import made
from floe.configs.schema import ModelSection
from floe.configs.sections.learning_sections import LoraSection
from floe.configs.sections.sampling_sections import RolloutSection

logger = logging.getLogger(__name__)


class VllmEngine:
    """Samples groups from the base model or from an installed adapter version."""

    def __init__(
        self,
        model_dir: Path,
        model: ModelSection,
        rollout: RolloutSection,
        lora: LoraSection,
        stop: tuple[str, ...],
        can_sleep: bool = False,
        kv_cache_bytes: int | None = None,
        plugin_folder: Path | None = None,
    ) -> None:
        self._model_dir = model_dir
        self._lora = lora
        self._stop = list(stop)
        self._versions: set[int] = set()
        self._proved: dict[str, int] = {}  # the newest version that the slots' digest belongs to
        on_cpu = current_platform.is_cpu()
        refusal = engine_refusal
        if FAMILIES.is_plugin(model.family):  # before the configuration is read: it may register the architecture
            refusal = made(FAMILIES, model.family, model.family_arguments, plugin_folder).engine_refusal
        if why := refusal(AutoConfig.from_pretrained(model_dir, trust_remote_code=False), on_cpu=on_cpu):
            raise UserError(f"The model in {model_dir} can't be sampled from here: {why}.")
        if on_cpu:
            install_single_adapter_path()
            leave_amx_out()
        arguments = engine_args(model_dir, model, rollout, lora, on_cpu, can_sleep, kv_cache_bytes)
        self._engine = LLMEngine.from_engine_args(arguments)
        if on_cpu:
            self._engine.collective_rpc("compute_lone_rows_in_pairs")
        self._tokenizer = self._engine.get_tokenizer()
        self._shares_prompts = vllm_version() in VERSIONS_OF_PROMPT_SHARING
        if not self._shares_prompts:
            logger.warning("vLLM %s is not known to prompt sharing: its prefix cache is used alone", vllm.__version__)
        is_known = vllm_version() in KNOWN_VERSIONS
        self._by_folder = rollout.adapter_transport == "folder" or (
            rollout.adapter_transport == "auto" and not is_known
        )
        logger.info("adapters are installed %s", "through folders" if self._by_folder else "from memory")

    def install(self, manifest: AdapterManifest, blob: memoryview) -> AdapterReceipt:
        """Install one adapter version and prove it: blob digest, bound modules, digest of the active slots.

        Raises AdapterProofError with what was expected and found.
        """
        started = time.perf_counter()
        self._await_batches()
        found = xxh3_128_hexdigest(blob)
        if found != manifest.digest:
            raise AdapterProofError(
                f"adapter version {manifest.version}: the blob's digest is {found[:12]}, "
                f"exported was {manifest.digest[:12]}"
            )
        try:
            answer = self._installed(manifest, blob)
        except ValueError as fault:
            raise AdapterProofError(f"adapter version {manifest.version} can't be installed: {fault}") from fault
        if answer["num_modules"] != manifest.num_modules:
            raise AdapterProofError(
                f"adapter version {manifest.version}: {answer['num_modules']} modules bound, "
                f"exported were {manifest.num_modules}"
            )
        if answer["installed"] != manifest.slots_digest:
            earlier = self._proved.get(answer["installed"])
            found = answer["installed"][:12] if earlier is None else f"version {earlier}"
            raise AdapterProofError(
                f"adapter version {manifest.version}: the engine's active slots hold {found}, "
                f"must hold {manifest.slots_digest[:12]}"
            )
        self._proved[manifest.slots_digest] = manifest.version
        self._versions = {i - 1 for i in self._engine.collective_rpc("list_adapter_ids")[0]}
        return AdapterReceipt(
            version=manifest.version,
            num_modules=answer["num_modules"],
            digest=answer["installed"],
            install_s=time.perf_counter() - started,
        )

    def _installed(self, manifest: AdapterManifest, blob: memoryview) -> dict[str, Any]:
        shape = manifest.rank, manifest.alpha, list(manifest.target_modules)
        answer: dict[str, Any]
        if not self._by_folder:
            answer = self._engine.collective_rpc("install_adapter", args=(manifest.version + 1, blob, *shape))[0]
            return answer
        with adapter_folder(blob, *shape) as folder:
            names = sorted(module_names(tensors_of(blob)))
            arguments = manifest.version + 1, str(folder), names
            answer = self._engine.collective_rpc("install_adapter_folder", args=arguments)[0]
            return answer

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        """Yield each group as soon as its last candidate is finished; None samples the base model.

        A caller that stops early gives up the groups that it has not got. Raises AdapterProofError when the version is
        not installed: the engine never falls back to the base.
        """
        adapter = self._adapter(adapter_version)
        waiting = {}
        for index, request in enumerate(requests):
            request_id = f"{index}:{request.question.question_id}"
            waiting[request_id] = request
            self._engine.add_request(
                request_id,
                {"prompt_token_ids": list(request.prompt_token_ids)},
                self._sampling_params(request),
                lora_request=adapter,
            )
        try:
            while waiting:
                for output in self._engine.step():
                    if isinstance(output, RequestOutput) and output.finished:
                        yield self._group(waiting.pop(output.request_id), output, adapter_version)
        except GeneratorExit:
            self._give_up(waiting, adapter_version)
            raise

    def _give_up(self, waiting: dict[str, GroupRequest], adapter_version: int | None) -> None:
        """Remove all traces of these requests for the next generation: steps, output, counts of prompt tokens."""
        if waiting:
            self._engine.abort_request(list(waiting))
        for request in waiting.values():
            self._take_num_computed(request.prompt_token_ids, adapter_version)

    def _take_num_computed(self, prompt_token_ids: Sequence[int], adapter_version: int | None) -> int | None:
        """Return how many tokens of the prompt were computed since the last call; None where they are not counted."""
        adapter_id = 0 if adapter_version is None else adapter_version + 1
        return PromptSharing.take_num_computed(adapter_id, tuple(prompt_token_ids)) if self._shares_prompts else None

    def _await_batches(self) -> None:
        """Wait for what is in flight when all groups are finished: on a GPU vLLM schedules ahead of the tokens."""
        core = self._engine.engine_core.engine_core
        while core.batch_queue:
            self._engine.step()

    def sleep(self) -> None:
        """Move the weights, adapters included, to the host and give up the KV cache: vLLM's level 1.

        Call it when nothing is being generated. On CPU vLLM has nowhere to move them and gives up the cache alone.
        """
        self._await_batches()
        self._engine.sleep(level=1)

    def wake_up(self) -> list[AdapterReceipt]:
        """Wake the engine; return what the active slots of each installed version hold afterwards, the oldest first."""
        started = time.perf_counter()
        self._engine.wake_up()
        found = self._engine.collective_rpc("read_adapters")[0]
        woken_s = time.perf_counter() - started
        return [
            AdapterReceipt(
                version=adapter_id - 1, num_modules=one["num_modules"], digest=one["installed"], install_s=woken_s
            )
            for adapter_id, one in sorted(found.items())
        ]

    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> list[float]:
        """Return [T - 1] of every token of a text but the first, at temperature 1; for when nothing is being generated.

        Raises AdapterProofError as `generate`.
        """
        # Prompt log-probabilities of 0 further tokens: only those of the text's own tokens.
        sampling = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        adapter = self._adapter(adapter_version)
        self._engine.add_request("canary", {"prompt_token_ids": list(token_ids)}, sampling, lora_request=adapter)
        while True:
            for output in self._engine.step():
                if isinstance(output, RequestOutput) and output.finished:
                    found = output.prompt_logprobs
                    assert found is not None
                    # read, so that it is not counted for the next group
                    self._take_num_computed(token_ids, adapter_version)
                    return [
                        position[token].logprob
                        for token, position in zip(token_ids[1:], found[1:], strict=True)
                        if position is not None
                    ]

    def _adapter(self, version: int | None) -> LoRARequest | None:
        """Return the adapter's request for vLLM. Raises AdapterProofError for a version that is not installed."""
        if version is None:
            return None
        if version not in self._versions:
            raise AdapterProofError(f"adapter version {version} was asked for, installed are {sorted(self._versions)}")
        # The path is never read while the id is installed, but it must exist for vLLM's checks.
        return LoRARequest(f"policy-v{version}", version + 1, str(self._model_dir))

    def _sampling_params(self, request: GroupRequest) -> SamplingParams:
        # logprobs=0 returns the sampled token's own log-probability and no others.
        return SamplingParams(
            n=request.num_samples,
            temperature=request.temperature,
            seed=request.seed,
            max_tokens=request.max_new_tokens,
            logprobs=0,
            stop=self._stop or None,
            include_stop_str_in_output=True,
            detokenize=bool(self._stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _group(self, request: GroupRequest, output: RequestOutput, adapter_version: int | None) -> RolloutGroup:
        version = -1 if adapter_version is None else adapter_version
        prompt = request.prompt_token_ids
        completions = []
        for sample in sorted(output.outputs, key=lambda sample: sample.index):
            token_ids = tuple(sample.token_ids)
            assert sample.logprobs is not None
            logprobs = []
            for token, position in zip(token_ids, sample.logprobs, strict=True):
                assert position is not None
                logprobs.append(position[token].logprob)
            completions.append(
                Completion(
                    text=self._tokenizer.decode(token_ids, skip_special_tokens=True),
                    token_ids=token_ids,
                    logprobs=tuple(logprobs),
                    truncated=sample.finish_reason == "length",
                    oldest_adapter_version=version,
                    newest_adapter_version=version,
                )
            )
        return RolloutGroup(
            group_id=request.group_id,
            question=request.question,
            prompt_token_ids=prompt,
            temperature=request.temperature,
            seed=request.seed,
            completions=tuple(completions),
            num_computed_prompt_tokens=self._take_num_computed(prompt, adapter_version),
        )
