"""`generate` of transformers, with the adapter by PEFT: a batch of padded prompts, each candidate a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from floe.cluster.messages import GroupRequest


class TransformersGenerate:
    def __init__(self, model_dir: Path, adapter_dir: Path, dtype: str) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, dtype))
        self._model: Any = PeftModel.from_pretrained(base, adapter_dir).eval()

    def ping(self) -> bool:
        return True

    def num_generated_tokens(self, requests: Sequence[GroupRequest]) -> int:
        import torch

        rows = [request.prompt_token_ids for request in requests for _ in range(request.num_samples)]
        width = max(map(len, rows))
        # Padded in front, so that every row continues at the same column.
        input_ids = torch.tensor([(0,) * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                do_sample=True,
                temperature=requests[0].temperature,
                top_k=0,
                max_new_tokens=requests[0].max_new_tokens,
                min_new_tokens=requests[0].max_new_tokens,
                pad_token_id=0,
            )
        num_tokens: int = (output.shape[1] - width) * len(rows)
        return num_tokens
