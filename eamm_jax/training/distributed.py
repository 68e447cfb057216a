"""Processes and devices: joining a run of many processes, the mesh, shardings and preemption.

Training is data-parallel: every device holds the whole state and an equal share of each batch.
The mesh is made here and nowhere else. Batch norm and the mean of a loss, written for a whole
batch and run under `jit` on a sharded one, are over the batch of all devices.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from eamm_jax.errors import UserError

PyTree = Any

HEARTBEAT_TIMEOUT = 10
"""Seconds without a heartbeat after which a process counts as dead and the others exit."""

LAUNCHERS = {"SLURM_NTASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun"}
"""Environment variables that hold the number of processes, and the launcher that sets them."""

EXIT_PEER_FAILED = 1


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins this process to the others of its run, if there are any.

    With arguments, they say who the others are. Without, the environment is asked: SLURM
    and Open MPI jobs of more than one task, Kubernetes indexed jobs (with the `kubernetes`
    package) and TPU slices are known to JAX. Anything else is a run of one process. Must be
    called before JAX is used.

    Args:
        coordinator: `host:port` of process 0, reachable by all.
        num_processes: processes in the run.
        process_id: which of them this is, from 0.

    Raises:
        UserError: some arguments are given and others are not, they contradict each other,
            or the environment speaks of many processes but does not say where they are.
    """
    if coordinator is None and num_processes is None and process_id is None:
        _initialize_from_environment()
        return
    if coordinator is None or num_processes is None or process_id is None:
        given = {
            "coordinator": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
        }
        missing = " and ".join(name for name, value in given.items() if value is None)
        raise UserError(
            f"coordinator, num_processes and process_id go together; {missing} is missing"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"coordinator is {coordinator!r}; it must be host:port of process 0")
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise UserError(
            f"process_id is {process_id} and num_processes {num_processes}; "
            "processes are numbered from 0 up to one less than their number"
        )
    if num_processes > 1:
        _join(
            coordinator_address=coordinator,
            num_processes=num_processes,
            process_id=process_id,
            # Only flags count: a run started by hand inside a SLURM job stays what it says.
            cluster_detection_method="deactivate",
        )


def _join(**who: Any) -> None:
    # JAX catches SIGTERM now (`preemption`); Python must believe that nobody has, or it would
    # put its own handler back wherever a handler is set for a while and restored.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT, **who)


def _initialize_from_environment() -> None:
    launched = [name for name in LAUNCHERS if int(os.environ.get(name) or 1) > 1]
    in_kubernetes_job = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(os.environ)
    may_be_tpu = importlib.util.find_spec("libtpu") is not None
    if not (launched or in_kubernetes_job or may_be_tpu):
        return
    try:
        _join()
    except ValueError:  # JAX found no description of the others
        if launched:
            name = launched[0]
            raise UserError(
                f"the environment says {name}={os.environ[name]} but not where the other "
                f"processes are; start this with {LAUNCHERS[name]}, or unset {name}, or give "
                "coordinator, num_processes and process_id"
            ) from None
        if in_kubernetes_job:
            raise UserError(
                "this is a Kubernetes indexed job, but its processes could not be found; "
                "install jax[k8s], or give coordinator, num_processes and "
                "process_id=$JOB_COMPLETION_INDEX"
            ) from None


@contextmanager
def ends_with_its_peers() -> Iterator[None]:
    """Makes a process of many exit at once when something fails in it.

    A process that is part of a run waits at its exit for the others, which wait for it in the
    middle of a collective operation: both would hang until a timeout. So the error is printed
    and the process exits without cleanup; the others notice and exit too.
    """
    try:
        yield
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, UserError):
            code, words = 2, f"error: {error}"
        elif isinstance(error, SystemExit) and isinstance(error.code, int):
            code, words = error.code, ""
        else:
            code, words = EXIT_PEER_FAILED, traceback.format_exc()
        if words:
            print(f"process {jax.process_index()}: {words}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_main_process() -> bool:
    """Whether this process writes and prints for the run."""
    return jax.process_index() == 0


@dataclass(frozen=True)
class Placement:
    """Where the arrays of a run live.

    Attributes:
        mesh: all devices of all processes, in one axis named "data".
        replicated: every device holds the whole array (the state, metrics).
        by_example: the first axis is dealt out to the devices (batches).
    """

    mesh: Mesh
    replicated: NamedSharding
    by_example: NamedSharding

    @property
    def num_devices(self) -> int:
        """Devices of all processes."""
        return int(self.mesh.size)

    def batch(self, rows: PyTree) -> PyTree:
        """A batch of the whole run from this process's rows (host arrays) of it."""
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self.by_example, np.asarray(x)), rows
        )

    def abstract(self, tree: PyTree) -> PyTree:
        """Shapes, types and sharding of a state, as a checkpoint is restored by."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.replicated), tree
        )


def make_placement(devices: Sequence[jax.Device] | None = None) -> Placement:
    """The mesh over `devices` (all of the run by default), and the two ways arrays lie on it."""
    devices = jax.devices() if devices is None else devices
    # Auto: the compiler decides how intermediate arrays are sharded, gathers included.
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return Placement(
        mesh=mesh,
        replicated=NamedSharding(mesh, PartitionSpec()),
        by_example=NamedSharding(mesh, PartitionSpec("data")),
    )


def check_batch_size(batch_size: int, placement: Placement) -> None:
    """Makes sure that every device gets the same number of examples.

    Raises:
        UserError: it does not.
    """
    if batch_size < 1 or batch_size % placement.num_devices:
        raise UserError(
            f"batch_size is {batch_size}; it is dealt out to {placement.num_devices} devices "
            "and must be a multiple of their number"
        )


def to_host(tree: PyTree) -> PyTree:
    """NumPy copies of replicated arrays; of those of many processes, this one's copy."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


def sum_over_processes(number: int) -> int:
    """The sum of a number that each process has its own of."""
    return int(multihost_utils.process_allgather(np.int64(number)).sum())


class Preemption:
    """Takes SIGTERM as a request to save and exit, while it is entered in the main thread.

    Schedulers send it some seconds before they take a machine away. In a run of many processes
    one of them may get it first (or alone); then all agree on a step to save at, through JAX's
    coordination service, which catches the signal itself.
    """

    def __init__(self) -> None:
        self._noted = False
        self._previous: signal.Handlers | object | None = None

    def __enter__(self) -> Preemption:
        if jax.process_count() == 1:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)  # type: ignore[arg-type]
            self._previous = None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._noted:  # asked twice: leave now, the last checkpoint stays
            raise SystemExit(128 + signum)
        self._noted = True

    def reached(self, step: int) -> bool:
        """Whether to save and leave now.

        Args:
            step: number of steps done; in a run of many processes each must ask at every
                step, and all get the same answer for the same step.
        """
        if jax.process_count() == 1:
            return self._noted
        return bool(multihost_utils.reached_preemption_sync_point(step))
