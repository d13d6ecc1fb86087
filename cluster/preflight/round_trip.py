"""Checks an adapter's way: exported as by the learner, through Ray's object store, into slots in another process."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from floe.actors.engine.slot_receiver import SlotReceiver
from floe.cluster.preflight.finding import Finding, fault, ok
from floe.cluster.preflight.sample_adapter import random_adapter
from floe.cluster.ray_actors.placement import put_blob
from floe.configs.schema import RunConfig
from floe.learner.adapter.export import export_blob

TIMEOUT_S = 120.0
VERSION = 1
SMALL = SimpleNamespace(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
)


def adapter_round_trip(config: RunConfig, receiver_class: type = SlotReceiver, timeout_s: float = TIMEOUT_S) -> Finding:
    """Check that the digest of the slots, computed by the receiver, is the exporter's."""
    tensors = random_adapter(SMALL, config.lora)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    manifest = export_blob(tensors, config.lora, VERSION, put_blob, config.rollout.dtype)
    receiver: Any = ray.remote(receiver_class).options(num_cpus=0).remote(shapes, config.rollout.dtype)
    sent = replace(manifest, blob_ref=None)
    try:
        ray.get(receiver.install.remote(sent, manifest.blob_ref[0]), timeout=timeout_s)
    except GetTimeoutError:
        return fault(f"an adapter did not reach another process in {timeout_s:g} s", "see Ray's logs, and 'ray status'")
    except ValueError as error:
        return fault(
            f"an adapter arrives damaged ({str(error).strip().splitlines()[-1]})",
            "the versions of torch and floe don't fit: 'make setup'",
        )
    finally:
        ray.kill(receiver)
    return ok(f"{manifest.num_modules} modules arrived with the digest {manifest.slots_digest[:12]} of the exporter")
