"""GPUs by the size printed on the box, with the smallest figure of CUDA that was found for each (pure)."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSize:
    name: str
    usable_bytes: int


# The smallest "total capacity" found in PyTorch's messages of users: 15.45 GiB (cards of 16 GB), 21.96 (L4; an A10 has
# 22.06 or 22.18 by its driver, an RTX 4090 23.6), 39.38 (A100), 44.34 (cards of 48 GB with error correction), 79.14
# (A100, lianqi1008/Control-GIC issue 6). A driver may reserve more: `floe plan --gpu-memory` takes any size.
CARD_SIZES = tuple(
    CardSize(name=name, usable_bytes=int(usable_gib * GIB))
    for name, usable_gib in (("16 GB", 15.45), ("24 GB", 21.96), ("40 GB", 39.38), ("48 GB", 44.34), ("80 GB", 79.14))
)
ASSUMED_CARD = CARD_SIZES[1]
