"""A process that multiplies once on the card, prints what it holds by PyTorch's count, and waits to be measured."""

from __future__ import annotations

import json
import sys

import torch

ROWS = 1024


def main() -> None:
    one, other, out = (torch.ones(ROWS, ROWS, dtype=torch.bfloat16, device="cuda") for _ in range(3))
    torch.cuda.synchronize()
    before_bytes = torch.cuda.memory_allocated()
    torch.mm(one, other, out=out)
    torch.cuda.synchronize()
    workspace_bytes = torch.cuda.memory_allocated() - before_bytes  # cuBLAS's comes from PyTorch's allocator
    print(json.dumps({"reserved": torch.cuda.memory_reserved(), "workspace": workspace_bytes}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
