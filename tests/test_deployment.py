"""The files for several machines: Ray's own schema, KubeRay's required fields, and room for the configuration."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY

MULTI_NODE = load_config(REPOSITORY / "configs" / "multi_node.yaml")
DEPLOY = REPOSITORY / "cluster" / "deploy"
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "containers": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["name"]}}
            },
        }
    },
}
START_PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}
WHOLE_NUMBER = {"type": "integer", "minimum": 0}
RAY_JOB = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["entrypoint", "rayClusterSpec"],
            "additionalProperties": False,
            "properties": {
                "entrypoint": {"type": "string", "minLength": 1},
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
                "backoffLimit": WHOLE_NUMBER,
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": WHOLE_NUMBER,
                "rayClusterSpec": {
                    "type": "object",
                    "required": ["headGroupSpec"],
                    "additionalProperties": False,
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "headGroupSpec": {
                            "type": "object",
                            "required": ["rayStartParams", "template"],
                            "additionalProperties": False,
                            "properties": {"rayStartParams": START_PARAMS, "template": POD},
                        },
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                                "additionalProperties": False,
                                "properties": {
                                    "groupName": {"type": "string"},
                                    "replicas": WHOLE_NUMBER,
                                    "minReplicas": WHOLE_NUMBER,
                                    "maxReplicas": WHOLE_NUMBER,
                                    "rayStartParams": START_PARAMS,
                                    "template": POD,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def read(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text())


def ray_schema() -> dict:
    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def test_the_cluster_file_keeps_rays_schema():
    jsonschema.validate(read("ray_cluster.yaml"), ray_schema())


def test_rays_schema_would_refuse_a_wrong_key():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read("ray_cluster.yaml") | {"worker_adresses": []}, ray_schema())


def test_the_cluster_file_is_taken_by_rays_launcher():
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read("ray_cluster.yaml")))


def test_the_ray_job_has_what_kuberay_requires():
    """Fields without `omitempty` in the Go types of ray.io/v1 are required: github.com/ray-project/kuberay,
    ray-operator/apis/ray/v1/rayjob_types.go (RayJobSpec) and raycluster_types.go (RayClusterSpec, HeadGroupSpec,
    WorkerGroupSpec). `RAY_JOB` states them, and the optional fields that the manifest uses.
    """
    job = read("rayjob.yaml")
    jsonschema.validate(job, RAY_JOB)
    broken = copy.deepcopy(job)
    del broken["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, RAY_JOB)


def test_versions_are_the_installed_ones():
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__


def test_the_ray_jobs_nodes_have_room_for_the_configuration():
    spec = read("rayjob.yaml")["spec"]
    assert spec["entrypoint"].startswith("floe train --config /floe/configs/multi_node.yaml ")
    cluster = spec["rayClusterSpec"]
    pods = [(1, cluster["headGroupSpec"])] + [(group["minReplicas"], group) for group in cluster["workerGroupSpecs"]]
    limits = [(count, pod["template"]["spec"]["containers"][0]["resources"]["limits"]) for count, pod in pods]
    num_gpus = sum(count * int(limit.get("nvidia.com/gpu", 0)) for count, limit in limits)
    num_cpus = sum(count * int(limit["cpu"]) for count, limit in limits)
    rollout, reward, learner = MULTI_NODE.rollout, MULTI_NODE.reward, MULTI_NODE.learner
    assert num_gpus >= rollout.num_actors * rollout.num_gpus + learner.num_ranks * learner.num_gpus
    assert num_cpus >= (
        rollout.num_actors * rollout.num_cpus
        + reward.num_workers * reward.num_cpus
        + learner.num_ranks * learner.num_cpus
    )


def test_every_pod_sees_the_runs_home():
    cluster = read("rayjob.yaml")["spec"]["rayClusterSpec"]
    for pod in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        mounts = [mount["mountPath"] for mount in pod["template"]["spec"]["containers"][0]["volumeMounts"]]
        assert any(MULTI_NODE.run.home.is_relative_to(mount) for mount in mounts)
