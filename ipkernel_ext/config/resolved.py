"""What a cluster's processes are configured with: frozen, and without traitlets, which takes time to import.

Where each value comes from, its default and its help are in ``settings``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ipkernel_ext.config.cores import cores

PLACES = ("local", "mpi", "ssh", "slurm", "pbs", "lsf", "sge", "htcondor", "dask", "ray")
"""Where engines may run."""


@dataclass(frozen=True)
class ControllerSettings:
    """See ``ParallelController``."""

    ip: str = ""
    port: int = 0
    recovery_window: float = 10.0  # seconds
    engine_grace: float = 60.0  # seconds
    result_ttl: float = 86400.0  # seconds
    result_store: int = 2**30  # bytes
    shared_memory: str = "/dev/shm"
    share_above: int = 2**18  # bytes
    share_pool: int = 2**30  # bytes
    location: str = ""
    pass_on: bool = True

    @property
    def tcp(self) -> bool:
        """Whether to listen for other hosts at all."""
        return bool(self.ip or self.port)


@dataclass(frozen=True)
class EngineSettings:
    """See ``ParallelEngine``."""

    max_output: int = 64 * 2**20  # characters
    exec_files: tuple[str, ...] = ()
    exec_lines: tuple[str, ...] = ()
    input_timeout: float = 3600.0  # seconds
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterSettings:
    """See ``ParallelCluster``."""

    n: int = 0
    restart: str = "on-failure"
    restart_limit: int = 3
    start_method: str = "fork"
    preload: tuple[str, ...] = ("numpy",)
    start_timeout: float = 60.0  # seconds
    engines: str = "local"  # one of ``PLACES``
    share_gpus: bool = True

    @property
    def number(self) -> int:
        """How many engines to start."""
        return self.n or cores()


@dataclass(frozen=True)
class SSHSettings:
    """See ``ParallelSSH``."""

    hosts: tuple[str, ...] = ()
    python: str = "python3"
    pythons: dict[str, str] = field(default_factory=dict)
    script: str = ""
    scripts: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    tunnel: bool = True
    connect_timeout: float = 15.0  # seconds


@dataclass(frozen=True)
class MPISettings:
    """See ``ParallelMPI``."""

    mpiexec: str = "mpiexec"
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchSettings:
    """See ``ParallelBatch``."""

    queue: str = ""
    account: str = ""
    time_limit: str = ""
    cpus: int = 1
    memory: str = ""
    gpus: int = 0
    lines: tuple[str, ...] = ()
    template: str = ""
    script: str = ""
    python: str = ""
    engines_per_job: int = 1
    shape: str = "array"
    drain: int = 60  # seconds
    poll: float = 2.0  # seconds


@dataclass(frozen=True)
class GuestSettings:
    """See ``ParallelGuest``."""

    address: str = ""
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class KubernetesSettings:
    """See ``ParallelKubernetes``."""

    image: str = ""
    name: str = "ipcluster"
    namespace: str = ""
    port: int = 5555
    engines_per_pod: int = 1
    cpus: float = 1.0
    memory: str = ""
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = field(default_factory=dict)
    pull_policy: str = ""
    pull_secret: str = ""
    service_account: str = ""
    python: str = "python3"
    template: str = ""


@dataclass(frozen=True)
class Settings:
    """What all processes of a cluster are configured with."""

    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    ssh: SSHSettings = field(default_factory=SSHSettings)
    mpi: MPISettings = field(default_factory=MPISettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    guest: GuestSettings = field(default_factory=GuestSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)

    def of_place(self, where: str) -> dict[str, Any]:
        """What engines at this place are configured with."""
        if where == "ssh":
            return asdict(self.ssh)
        if where == "mpi":
            return asdict(self.mpi)
        return asdict(self.guest if where in ("dask", "ray") else self.batch)
