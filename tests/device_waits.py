"""Finds what would make a host wait for its GPU, on a machine without one: by the operations that are dispatched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Their results have sizes, or are values, that the host has to know; `lift_fresh` brings Python's numbers in.
WAITING = {
    aten._local_scalar_dense,
    aten.bincount,
    aten.equal,
    aten.is_nonzero,
    aten.lift_fresh,
    aten.masked_select,
    aten.nonzero,
    aten.repeat_interleave,
    aten._unique2,
    aten.unique_consecutive,
    aten.unique_dim,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}
MASKS = (torch.bool, torch.uint8)


class DeviceWait(Exception):
    """An operation for which a host waits."""


class Watch(TorchDispatchMode):
    """Counts the operations by name; raises DeviceWait at one of those above while `is_watching`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_watching = False
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        self.counts[packet.__name__] += 1
        if self.is_watching and (packet in WAITING or has_mask(packet, args) or changes_device(packet, args, kwargs)):
            raise DeviceWait(str(func))
        return func(*args, **kwargs)


def has_mask(packet: Any, args: Any) -> bool:
    """Return whether rows are picked by a mask, whose true values have to be counted first."""
    return packet in INDEXING and any(one is not None and one.dtype in MASKS for one in args[1])


def changes_device(packet: Any, args: Any, kwargs: Any) -> bool:
    if packet is aten.copy_:
        return args[0].device.type != args[1].device.type
    target = kwargs.get("device")
    return packet is aten._to_copy and target is not None and torch.device(target).type != args[0].device.type


@contextmanager
def watched(layers: torch.nn.ModuleList) -> Iterator[Watch]:
    """Watch forward passes from the first layer's start to the last one's end; the backward pass is the caller's."""
    watch = Watch()

    def start(*_: Any) -> None:
        watch.is_watching = True

    def end(*_: Any) -> None:
        watch.is_watching = False

    hooks = [layers[0].register_forward_pre_hook(start), layers[-1].register_forward_hook(end)]
    try:
        with watch:
            yield watch
    finally:
        for hook in hooks:
            hook.remove()


def backward(watch: Watch, layers: torch.nn.ModuleList, objective: torch.Tensor) -> None:
    """Run the whole backward pass under watch, whatever layers are computed again in it."""
    always = [layer.register_forward_hook(lambda *_: setattr(watch, "is_watching", True)) for layer in layers]
    watch.is_watching = True
    try:
        objective.backward()
    finally:
        watch.is_watching = False
        for hook in always:
            hook.remove()
