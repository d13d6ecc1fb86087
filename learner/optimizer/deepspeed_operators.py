"""Builds the C++ operators that DeepSpeed would otherwise build in the first training step (kept per environment)."""

from __future__ import annotations

import torch

from floe.learner.optimizer.operator_builds import prepare_to_build


def main() -> None:
    if torch.cuda.is_available():
        return
    from deepspeed.ops.op_builder.cpu import CPUAdamBuilder, ShareMemCommBuilder

    for lock in prepare_to_build():
        print(f"An earlier build was broken off: its lock '{lock}' is removed.")
    for builder in (ShareMemCommBuilder(), CPUAdamBuilder()):
        builder.load(verbose=False)


if __name__ == "__main__":
    main()
