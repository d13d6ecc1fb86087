"""Part 1: the machine, its card and PyTorch's build, and what a process holds of the card before it does anything."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import torch

from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
from floe.cluster.prove.gpu import idle_context
from floe.cluster.prove.gpu.cuda import used_bytes_beside_context
from floe.cluster.prove.gpu.findings import Figures, Line, Setting, at_most, holds, not_here, told, without_packages
from floe.cluster.prove.gpu.parts import ALL_PACKAGES, is_installed

MAX_TOTAL_DIFFERENCE = 0.03  # NVML counts what the driver keeps for itself
MAX_CONTEXT_GIB = 1.0
GIB = 2**30
OF_A_CARD = ("PyTorch's build", "CUDA's total against NVML's", "a process's context", "cuBLAS's workspace")


def prove(setting: Setting) -> Iterator[Line | Figures]:
    yield told("PyTorch", torch.__version__)
    if setting.device == "cuda":
        yield from _card()
    else:
        yield from (not_here(name, "there is no card") for name in OF_A_CARD)
    yield _doctor(setting)


def _card() -> Iterator[Line | Figures]:
    build = torch.version.cuda
    yield holds("PyTorch's build", build is not None, f"for CUDA {build}", "for CUDA")
    _, usable_bytes = torch.cuda.mem_get_info(0)
    yield Figures(values={"usable_bytes": usable_bytes})
    yield from _against_nvml(usable_bytes)
    context_bytes, workspace_bytes = idle_context_bytes()
    yield at_most("a process's context", context_bytes / GIB, MAX_CONTEXT_GIB, " GiB")
    yield told("cuBLAS's workspace", f"{workspace_bytes / 2**20:.1f} MiB")
    yield Figures(values={"cuda_context_bytes": context_bytes, "cublas_workspace_bytes": workspace_bytes})


def _against_nvml(usable_bytes: int) -> Iterator[Line | Figures]:
    name = "CUDA's total against NVML's"
    if not is_installed("pynvml"):
        yield without_packages(name, ("nvidia-ml-py",))
        return
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda._get_nvml_device_index(0))
        total_bytes, driver = pynvml.nvmlDeviceGetMemoryInfo(handle).total, pynvml.nvmlSystemGetDriverVersion()
    finally:
        pynvml.nvmlShutdown()
    yield told("driver", driver.decode() if isinstance(driver, bytes) else driver)
    yield told(name, f"{usable_bytes / GIB:.2f} of {total_bytes / GIB:.2f} GiB")
    yield at_most("share that CUDA does not give", 1 - usable_bytes / total_bytes, MAX_TOTAL_DIFFERENCE)
    yield Figures(values={"total_bytes": total_bytes})


def idle_context_bytes() -> tuple[int, int]:
    """Return what another process that has multiplied once takes of the card, and cuBLAS's part of its own memory."""
    before_bytes = used_bytes_beside_context()
    process = subprocess.Popen(
        module_command(idle_context.__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment_of_floe(),
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        told_bytes = json.loads(process.stdout.readline())
        taken_bytes = used_bytes_beside_context() - before_bytes
    finally:
        process.stdin.close()  # the process waits on it
        process.wait()
    return taken_bytes - told_bytes["reserved"], told_bytes["workspace"]


def _doctor(setting: Setting) -> Line:
    """Run `floe doctor` for the configuration that the parts with an engine use."""
    name = "faults that floe doctor finds"
    if missing := tuple(one for one in ALL_PACKAGES if not is_installed(one)):
        return without_packages(name, missing)
    from floe.cluster.prove.gpu.engine_under_proof import SMOKE, smoke_overrides

    command = module_command("floe.cluster.cli", "doctor", "--json", "--config", str(SMOKE), *smoke_overrides(setting))
    done = subprocess.run(command, env=environment_of_floe(), capture_output=True, text=True)
    found = json.loads(done.stdout)
    faults = [f"{one['name']}: {one['what']}" for one in found["findings"] if one["level"] == "fault"]
    line = at_most(name, found["num_faults"], 0)
    return Line(name=name, verdict=line.verdict, figure=line.figure, limit=line.limit, why="; ".join(faults))
