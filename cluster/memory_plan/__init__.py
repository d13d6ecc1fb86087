"""The memory of a run before it starts: what each role holds in each phase, and which placement fits."""

from cluster.memory_plan.model_shape import ModelShape
from cluster.memory_plan.plan import MemoryPlan, plan_memory

__all__ = ["MemoryPlan", "ModelShape", "plan_memory"]
