"""Facts about the processor: its name, the instruction set that kernels take, and what environment variables mask."""

from __future__ import annotations

import platform
from pathlib import Path

from floe.cluster.environment import instruction_set_masks

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # the last is Arm's
NAMED_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor_line() -> str:
    """Return the processor's name, the instruction set of PyTorch's kernels, flags that matter, and the masks."""
    import torch

    flags = [name for name in NAMED_FLAGS if name in processor_flags()]
    line = f"{processor_name()}, PyTorch's kernels for {torch.backends.cpu.get_cpu_capability()}"
    line += f", flags {' '.join(flags)}" if flags else ""
    found = instruction_set_masks()
    if not found:
        return line
    settings = " ".join(f"{name}={value}" for name, value in found.items())
    return f"{line}, masked by {settings}; {unmasked_kernels()}"


def unmasked_kernels() -> str:
    """Return which kernels the masks do not reach."""
    return (
        f"not masked: vLLM's own kernels (module {vllm_extension()}, chosen by the processor's real flags) and "
        "DeepSpeed's operators (built for the real processor)"
    )


def vllm_extension(flags: frozenset[str] | None = None) -> str:
    """Return the module of kernels that vLLM loads on this processor; no variable changes it."""
    flags = processor_flags() if flags is None else flags
    if platform.machine() not in ("x86_64", "AMD64"):
        return "_C"
    if "avx512f" not in flags:
        return "_C_AVX2"
    return "_C" if "avx512_bf16" in flags else "_C_AVX512"


def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 itself, and no mask hides that from the kernels."""
    return bool(processor_flags() & set(BFLOAT16_FLAGS)) and not instruction_set_masks()


def processor_name() -> str:
    """Return the model name that the system gives, or the architecture where it gives none."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """Return the instruction set extensions that the processor reports; none where the system does not list them."""
    return frozenset((_cpu_info("flags") or _cpu_info("Features")).split())


def _cpu_info(key: str) -> str:
    """Return the first processor's value, empty where there is none."""
    if not CPU_INFO.is_file():
        return ""
    for line in CPU_INFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
