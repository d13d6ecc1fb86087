"""Facts about the processor: its name, the instruction set that kernels take, and what environment variables mask."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# PyTorch's own kernels, its oneDNN (matrix products) and its MKL (float32 matrix products) read these at their start.
MASKS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
NAMED_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor_line() -> str:
    """Return the processor's name, the instruction set of PyTorch's kernels, flags that matter, and the masks."""
    import torch

    flags = [name for name in NAMED_FLAGS if name in processor_flags()]
    line = f"{processor_name()}, PyTorch's kernels for {torch.backends.cpu.get_cpu_capability()}"
    line += f", flags {' '.join(flags)}" if flags else ""
    found = masks()
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


def masks() -> dict[str, str]:
    """Return the variables that hold kernels to an older instruction set, where they are set."""
    return {name: os.environ[name] for name in MASKS if os.environ.get(name)}


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
