"""What a cluster's processes are configured with: frozen, and without traitlets, which takes time to import.

Where each value comes from, its default and its help are in ``settings``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ipkernel_ext.config.cores import cores


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


@dataclass(frozen=True)
class ClusterSettings:
    """See ``ParallelCluster``."""

    n: int = 0
    restart: str = "on-failure"
    restart_limit: int = 3
    start_method: str = "fork"
    preload: tuple[str, ...] = ("numpy",)
    start_timeout: float = 60.0  # seconds

    @property
    def engines(self) -> int:
        """How many engines to start."""
        return self.n or cores()


@dataclass(frozen=True)
class Settings:
    """What all processes of a cluster are configured with."""

    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
