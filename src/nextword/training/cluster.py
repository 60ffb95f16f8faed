"""Where a worker stands among those that train the same run: alone, on one machine, or on several nodes."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment


def find_cluster(devices: int) -> tuple[ClusterEnvironment, int]:
    """What started this worker, and on how many nodes.

    ``torchrun`` and ``srun`` start every process of a run, on as many nodes as they are told to; else the run is of
    this machine, and Lightning starts the other processes.

    Args:
        devices: processes of the run on each node.

    Returns:
        the environment for Lightning, and the number of nodes.

    Raises:
        ValueError: the launcher started another number of processes a node.
    """
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment, option = TorchElasticEnvironment(), "--nproc-per-node"
        processes, started = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    elif "SLURM_STEP_ID" in os.environ and SLURMEnvironment.detect():  # else in an allocation, but not by srun
        # A worker that is told to stop saves and says so by its exit status; who started it asks for the requeue.
        environment, option = SLURMEnvironment(auto_requeue=False), "--ntasks-per-node"
        processes = int(os.environ["SLURM_NTASKS"])
        started = processes // int(os.environ["SLURM_NNODES"])
    else:
        return LightningEnvironment(), 1
    if started != devices or processes % devices:
        raise ValueError(
            f"{started} processes a node ({processes} in all) were started for a run of {devices} devices a node; "
            f"give {option} {devices}, or set train.devices_per_run to {started} and write the job anew"
        )
    return environment, processes // devices
