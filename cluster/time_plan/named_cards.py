"""GPUs by name, with their makers' published peaks, for plans of runs on a card that is not here (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.memory_plan.card_sizes import CARD_SIZES, GIB
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

T4_GIB = 14.56  # "total capacity" in PyTorch's messages of users (Zheng-Chong/CatVTON issue 133)
USABLE_BYTES = {size.name: size.usable_bytes for size in CARD_SIZES} | {
    "T4": int(T4_GIB * GIB),
    # No message was found: the decimal reading of what is printed on the box, which is below the binary one.
    "32 GB": 32 * 10**9,
    "141 GB": 141 * 10**9,
}
TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCard:
    """A card of `--device`; the rates are peaks that no program reaches."""

    key: str  # value of --device
    name: str
    size: str  # key of USABLE_BYTES
    bfloat16_flop_per_s: float | None  # dense products that are added up in float32; None: it has no bfloat16
    float32_flop_per_s: float
    bytes_per_s: float  # bandwidth of its memory
    source: str
    driver_names: tuple[str, ...]  # NVML's, for what `make prove-gpu` measured

    @property
    def usable_bytes(self) -> int:
        return USABLE_BYTES[self.size]

    def flop_per_s(self, dtype: str) -> float:
        """Return the peak in products of a type."""
        is_half = dtype == "bfloat16" and self.bfloat16_flop_per_s is not None
        return self.bfloat16_flop_per_s if is_half and self.bfloat16_flop_per_s else self.float32_flop_per_s


def _card(
    key: str,
    name: str,
    size: str,
    tera: tuple[float | None, float],
    giga_bytes: float,
    source: str,
    *driver_names: str,
) -> NamedCard:
    bfloat16, float32 = tera
    return NamedCard(
        key=key,
        name=name,
        size=size,
        bfloat16_flop_per_s=None if bfloat16 is None else bfloat16 * TERA,
        float32_flop_per_s=float32 * TERA,
        bytes_per_s=giga_bytes * GIGA,
        source=source,
        driver_names=driver_names,
    )


SHEET = "NVIDIA's data sheet"
NAMED_CARDS = (
    _card("t4", "T4", "T4", (None, 8.1), 300, SHEET, "Tesla T4", "NVIDIA T4"),
    _card("a10", "A10", "24 GB", (125, 31.2), 600, SHEET, "NVIDIA A10"),
    _card("l4", "L4", "24 GB", (121, 30.3), 300, SHEET, "NVIDIA L4"),
    _card("3090", "RTX 3090", "24 GB", (71, 35.6), 936, "NVIDIA's GA102 white paper", "NVIDIA GeForce RTX 3090"),
    _card("4090", "RTX 4090", "24 GB", (165.2, 82.6), 1008, "NVIDIA's Ada white paper", "NVIDIA GeForce RTX 4090"),
    _card("5090", "RTX 5090", "32 GB", (209.5, 104.8), 1792, "NVIDIA's RTX Blackwell white paper",
          "NVIDIA GeForce RTX 5090"),
    _card("a100-40g", "A100 40 GB", "40 GB", (312, 19.5), 1555, SHEET, "NVIDIA A100-SXM4-40GB",
          "NVIDIA A100-PCIE-40GB"),
    _card("a100-80g", "A100 80 GB (PCIe)", "80 GB", (312, 19.5), 1935, SHEET, "NVIDIA A100 80GB PCIe",
          "NVIDIA A100-SXM4-80GB"),
    _card("h100", "H100 (SXM)", "80 GB", (989, 67), 3350, SHEET, "NVIDIA H100 80GB HBM3"),
    _card("h200", "H200 (SXM)", "141 GB", (989, 67), 4800, SHEET, "NVIDIA H200"),
)  # fmt: skip


def config_for(card: NamedCard, config: RunConfig) -> RunConfig:
    """Return the configuration with the precision that the card has. Raises UserError for a run that it can't serve."""
    if not config.asks_for_gpus:
        raise UserError(
            f"--device is {card.key}, but the run asks for no GPU: set what engine and learner have of one, as in "
            "rollout.num_gpus=0.5 learner.num_gpus=0.5."
        )
    types = {"model": config.model.dtype, "rollout": config.rollout.dtype}
    if card.bfloat16_flop_per_s is not None:
        return config
    for section, dtype in types.items():
        if dtype == "bfloat16":
            raise UserError(f"{section}.dtype is bfloat16, which a {card.name} lacks: set {section}.dtype=float32.")
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update={"dtype": "float32"}) for name in types}
    )


def named_card(key: str) -> NamedCard:
    """Return the card of a name. Raises UserError that lists the names."""
    found = next((card for card in NAMED_CARDS if card.key == key.lower()), None)
    if found is None:
        raise UserError(
            f"--device is '{key}', which is not a known card: give one of {', '.join(one.key for one in NAMED_CARDS)}, "
            "or the size of another with --gpu-memory."
        )
    return found
