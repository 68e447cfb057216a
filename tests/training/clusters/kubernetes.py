"""Stands in for the package `kubernetes` and for a cluster's DNS, where processes fake a job.

The job is that of docs/training.md: two pods of the indexed job `stage1` behind the headless
service `eamm`. JAX asks for it as on a cluster; only the name of the first pod is resolved here,
since nobody else knows it.
"""

from types import SimpleNamespace
from unittest import mock

from jax._src.clusters.k8s_cluster import K8sCluster

FIRST_POD, HERE = "stage1-0.eamm", "127.0.0.1"

POD = SimpleNamespace(
    metadata=SimpleNamespace(
        name="stage1-0-x",
        labels={"job-name": "stage1"},
        owner_references=[SimpleNamespace(controller=True, kind="Job")],
    ),
    spec=SimpleNamespace(subdomain="eamm"),
)
JOB = SimpleNamespace(
    metadata=SimpleNamespace(name="stage1", labels={}), spec=SimpleNamespace(parallelism=2)
)


def load_incluster_config() -> None:
    """Puts in place what only a pod has: its namespace's file, and names of other pods."""
    ask = K8sCluster.get_coordinator_address

    def resolved(timeout_secs: int | None, override_coordinator_port: str | None) -> str:
        address = ask(timeout_secs=None, override_coordinator_port=override_coordinator_port)
        assert address.startswith(f"{FIRST_POD}:")
        return address.replace(FIRST_POD, HERE)

    for name, stand_in in (
        ("get_coordinator_address", resolved),
        ("_namespace", lambda: "default"),
    ):
        mock.patch.object(K8sCluster, name, staticmethod(stand_in)).start()


config = SimpleNamespace(load_incluster_config=load_incluster_config)
client = SimpleNamespace(
    CoreV1Api=lambda: SimpleNamespace(
        list_namespaced_pod=lambda namespace, field_selector: SimpleNamespace(items=[POD])
    ),
    BatchV1Api=lambda: SimpleNamespace(read_namespaced_job=lambda name, namespace: JOB),
    exceptions=SimpleNamespace(ApiException=OSError),
)
