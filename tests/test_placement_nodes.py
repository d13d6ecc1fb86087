"""Actors of one role go to different nodes: two raylets on this machine."""

import subprocess
import sys

import pytest

from tests.command_line import REPOSITORY

PLACES = """
import ray
from ray.cluster_utils import Cluster
from floe.cluster.ray_actors.actor_start import over_nodes

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=4, include_dashboard=False) for _ in range(2)]
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)

class Actor:
    def node(self):
        return ray.get_runtime_context().get_node_id()

def num_nodes(count):
    actors = [ray.remote(Actor).options(num_cpus=0.5, **over_nodes(count)).remote() for _ in range(count)]
    return len(set(ray.get([actor.node.remote() for actor in actors])))

print(num_nodes(2), num_nodes(1))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.engine
@pytest.mark.long
def test_two_actors_of_a_role_are_on_two_nodes():
    done = subprocess.run(
        [sys.executable, "-c", PLACES], capture_output=True, text=True, timeout=1800, cwd=REPOSITORY
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["2", "1"]
