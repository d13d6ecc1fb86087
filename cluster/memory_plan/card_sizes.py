"""GPUs by the size printed on the box, with CUDA's figure for the smallest card of each size (pure)."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSize:
    name: str
    usable_bytes: int


# "total capacity" in PyTorch's messages of users: RTX A4000 15.61 GiB (DengKaiCQ/VGGT-Long issue 6), A10 22.18, A100
# 39.50 GiB (TianheWu/CoSeR issue 10), L40S 44.42 GiB (stepfun-ai/Step-Video-T2V issue 8; error correction takes its
# part), A100 79.14 GiB (lianqi1008/Control-GIC issue 6). An RTX 4090 has 23.6, which the 24 GB card is on the safe side
# of.
CARD_SIZES = tuple(
    CardSize(name=name, usable_bytes=int(usable_gib * GIB))
    for name, usable_gib in (("16 GB", 15.61), ("24 GB", 22.18), ("40 GB", 39.50), ("48 GB", 44.42), ("80 GB", 79.14))
)
ASSUMED_CARD = CARD_SIZES[1]
