"""The largest values that fields take: far above what a run uses, and below what any library overflows at."""

from __future__ import annotations

MAX_COUNT = 2**31 - 1  # what C libraries count with
MAX_PARALLEL = 4096  # processes, threads or requests at a time
MAX_STEPS = 999_999  # the names of checkpoints have six digits
MAX_TOKENS = 2**24  # of one sequence, or of one pack
MAX_BYTES = 2**50
MAX_GIB = 2**20
MAX_S = 365 * 24 * 3600.0
MAX_SEED = 2**32 - 1  # NumPy takes no larger one
MAX_FACTOR = 1e6  # of weights, caps and limits that have no unit of their own
MAX_PORT = 65_535
MAX_TEXT_CHARACTERS = 4096
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 2.0  # vLLM raises what is below, and refuses what is above
MIN_RESOURCE = 0.0001  # what Ray tells apart from 0
COUNTS = {"rollout": "rollout.num_actors", "learner": "learner.num_ranks"}  # of the processes that may have GPUs


def refused_resources(section: str, *, num_cpus: float = 0.0, num_gpus: float = 0.0) -> str | None:
    """Return the sentence, without full stop, for an amount that Ray can't reserve for an actor; else None."""
    for field, amount in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
        if 0 < amount < MIN_RESOURCE:
            return f"{section}.{field} is {amount:g}, which Ray can't tell from 0: set it to 0, or to at least 0.0001"
    if num_gpus > 1:
        return (
            f"{section}.num_gpus is {num_gpus:g}, but one process computes on one GPU, since floe has no tensor "
            f"parallelism: set at most 1, and raise {COUNTS[section]} to use more GPUs"
        )
    return None
