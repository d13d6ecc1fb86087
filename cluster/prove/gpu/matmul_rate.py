"""Measures how many floating-point operations the card does in a second, in products of large bfloat16 matrices."""

from __future__ import annotations

import time

import torch

ROWS = 8192
NUM_PRODUCTS = 20


def main() -> None:
    one, other = (torch.randn(ROWS, ROWS, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    for _ in range(3):
        torch.mm(one, other)
    torch.cuda.synchronize()
    started_s = time.perf_counter()
    for _ in range(NUM_PRODUCTS):
        torch.mm(one, other)
    torch.cuda.synchronize()
    print(2 * ROWS**3 * NUM_PRODUCTS / (time.perf_counter() - started_s))


if __name__ == "__main__":
    main()
