"""The memory of a run before it starts: what each role holds in each phase, and which placement fits."""

from floe.cluster.memory_plan.plan import MemoryPlan, plan_memory
from floe.cluster.memory_plan.shapes.model_shape import ModelShape

__all__ = ["MemoryPlan", "ModelShape", "plan_memory"]
