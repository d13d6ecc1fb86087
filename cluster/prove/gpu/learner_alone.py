"""Part 3: the learner with a tiny model, against the model's own forward in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from floe.cluster.prove.gpu.attention import relative_difference
from floe.cluster.prove.gpu.cuda import counted_synchronisations, synchronise
from floe.cluster.prove.gpu.findings import Line, Setting, at_least, at_most, holds, not_here, without_packages
from floe.cluster.prove.gpu.parts import is_installed
from floe.cluster.prove.gpu.tiny_policy import (
    NUM_LAYERS,
    Gradients,
    PlainLora,
    gradients_of,
    own_loss,
    packed_loss,
    policy_of,
    proof_groups,
    trained,
    write_tiny,
)
from floe.learner.adapter.export import AdapterExport
from floe.learner.adapter.files import read_adapter, write_adapter
from floe.learner.optimizer.frozen_weights import FrozenWeights
from floe.learner.policy.policy import adapter_tensors

NUM_UPDATES = 3
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
ZERO_PACKAGES = ("deepspeed", "pydantic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits relative to the norm; the loss's is relative to its own size."""

    loss: float
    gradient: float
    update: float  # Adam divides by the gradient's own size, so that small gradients count as much as large ones


LIMITS = {
    "float32": Limits(loss=1e-4, gradient=1e-3, update=2e-2),
    "bfloat16": Limits(loss=3e-2, gradient=6e-2, update=1),
}


def prove(setting: Setting) -> Iterator[Line]:
    device = torch.device(setting.device)
    torch.manual_seed(0)
    model_dir = write_tiny(setting.scratch_dir / "tiny", NUM_LAYERS)
    is_large = device.type == "cuda" and not setting.is_quick
    yield from _against_the_model(model_dir, device, is_large)
    yield from _adamw(model_dir, device)
    yield from _zero(model_dir, device)
    yield from _offload(model_dir, device)
    yield from _save_and_load(model_dir, device, setting.scratch_dir / "adapter")
    yield _waits(setting, device)


def _against_the_model(model_dir: Path, device: torch.device, is_large: bool) -> Iterator[Line]:
    """Compare with each completion computed alone, by transformers' own attention."""
    groups = proof_groups(is_large)
    reference = policy_of(model_dir, torch.device("cpu"), "float32")
    wanted_loss = own_loss(reference, groups)
    wanted = gradients_of(reference, wanted_loss)
    for dtype in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        policy = policy_of(model_dir, device, dtype)
        loss = packed_loss(policy, groups)
        limits = LIMITS[dtype]
        difference = abs(loss.item() / wanted_loss.item() - 1)
        yield at_most(f"loss in {dtype}, against the model's own forward on the CPU", difference, limits.loss)
        found = gradients_of(policy, loss)
        difference = relative_difference([joined(found)], [joined(wanted)])
        yield at_most(f"gradient in {dtype}, against the same", difference, limits.gradient)


def joined(tensors: Gradients) -> torch.Tensor:
    """Return one vector on the CPU, by name."""
    return torch.cat([tensors[name].detach().double().cpu().flatten() for name in sorted(tensors)])


def _changes(model_dir: Path, device: torch.device, fused: bool) -> torch.Tensor:
    """Return the change of the adapter, in float32, by some updates of PyTorch's own AdamW."""
    policy = policy_of(model_dir, device, "float32")
    before = joined(trained(policy))
    optimizer = torch.optim.AdamW(
        trained(policy).values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=fused, foreach=False
    )
    for _ in range(NUM_UPDATES):
        optimizer.zero_grad()
        packed_loss(policy, proof_groups(False)).backward()
        optimizer.step()
    return joined(trained(policy)) - before


def _adamw(model_dir: Path, device: torch.device) -> Iterator[Line]:
    plain = _changes(model_dir, torch.device("cpu"), fused=False)
    name = f"{NUM_UPDATES} updates by the fused AdamW, against the plain one on the CPU"
    yield at_most(
        name, relative_difference([_changes(model_dir, device, fused=True)], [plain]), LIMITS["float32"].update
    )


def _zero(model_dir: Path, device: torch.device) -> Iterator[Line]:
    name = f"{NUM_UPDATES} updates by DeepSpeed's ZeRO-2, against PyTorch's AdamW"
    if missing := tuple(one for one in ZERO_PACKAGES if not is_installed(one)):
        yield without_packages(name, missing)
        return
    from floe.configs.sections.learning_sections import LearnerSection
    from floe.learner.optimizer.deepspeed_engine import DeepSpeedEngine

    settings = LearnerSection(
        zero_stage=2, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, max_grad_norm=1e6, num_gpus=0
    )
    policy = policy_of(model_dir, device, "float32")
    before = joined(trained(policy))
    engine = DeepSpeedEngine(policy, settings, "float32")
    for _ in range(NUM_UPDATES):
        engine.backward(packed_loss(engine.module, proof_groups(False)), last=True)
        engine.step(LEARNING_RATE)
    difference = relative_difference([joined(trained(policy)) - before], [_changes(model_dir, device, fused=True)])
    yield at_most(name, difference, LIMITS["float32"].gradient)


def _offload(model_dir: Path, device: torch.device) -> Iterator[Line]:
    policy = policy_of(model_dir, device, "float32")
    before = packed_loss(policy, proof_groups(False)).detach()
    frozen = [one for one in policy.parameters() if not one.requires_grad]
    num_bytes = sum(one.nbytes for one in frozen)
    weights = FrozenWeights(policy)
    held_bytes = _allocated_bytes(device)
    weights.to_host()
    freed_bytes = held_bytes - _allocated_bytes(device)
    on_host = all(one.device.type == "cpu" for one in frozen)
    weights.to_device()
    synchronise(device)
    after = packed_loss(policy, proof_groups(False)).detach()
    is_back = on_host and all(one.device.type == device.type for one in frozen) and bool(before == after)
    yield holds(
        "loss after the frozen weights were on the host", is_back, f"{float(after):.6g}", f"{float(before):.6g}"
    )
    if device.type == "cuda":
        yield at_least("share of the frozen weights' memory that is free meanwhile", freed_bytes / num_bytes, 0.9)
    else:
        yield not_here("share of the frozen weights' memory that is free meanwhile", "the host is the device")


def _allocated_bytes(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _save_and_load(model_dir: Path, device: torch.device, folder: Path) -> Iterator[Line]:
    lora = PlainLora()
    policy = policy_of(model_dir, device, "float32")
    tensors = adapter_tensors(policy)
    write_adapter(folder, AdapterExport(lora, "float32", tensors).blob(tensors), lora, model_dir)  # type: ignore[arg-type]
    loaded = policy_of(model_dir, device, "float32", read_adapter(folder, lora))  # type: ignore[arg-type]
    saved, found = (packed_loss(one, proof_groups(False)).item() for one in (policy, loaded))
    yield holds("loss with the adapter that was saved and loaded", saved == found, f"{found:.9g}", f"{saved:.9g}")


def _waits(setting: Setting, device: torch.device) -> Line:
    """Count a layer's waits, by two models that differ only in their number of layers."""
    name = "waits for the device of a whole layer, forward and backward"
    if device.type != "cuda":
        return not_here(name, "the CPU has nothing to wait for")
    counts = []
    for num_layers in (NUM_LAYERS, 2 * NUM_LAYERS):
        model_dir = write_tiny(setting.scratch_dir / f"tiny-{num_layers}", num_layers)
        policy = policy_of(model_dir, device, "bfloat16")
        packed_loss(policy, proof_groups(False)).backward()
        with counted_synchronisations() as found:
            packed_loss(policy, proof_groups(False)).backward()
        counts.append(found.count)
    return at_most(name, (counts[1] - counts[0]) / NUM_LAYERS, 0)
