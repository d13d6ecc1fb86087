"""Builds the C++ operators that DeepSpeed would otherwise build in the first training step (cached per user)."""

from __future__ import annotations

import torch


def main() -> None:
    if torch.cuda.is_available():
        return
    from deepspeed.ops.op_builder.cpu import CPUAdamBuilder, ShareMemCommBuilder

    for builder in (ShareMemCommBuilder(), CPUAdamBuilder()):
        builder.load(verbose=False)


if __name__ == "__main__":
    main()
