"""Adapters: each system does the same work in its own idiom. Found by name with ``make``."""

from __future__ import annotations

from importlib import import_module

from benchmarks.systems.base import System

PLACES = {
    "ipkernel_ext": "ours.Ours",
    "broker": "bare.Broker",
    "Pool": "pools.Pool",
    "futures": "pools.Futures",
    "loky": "pools.Loky",
    "joblib": "pools.Joblib",
    "ipyparallel": "ipyparallel.IPyParallel",
    "ipyparallel, 200 ms": "ipyparallel.FastBeat",
    "dask": "dask.Dask",
    "ray": "ray.Ray",
    "mpi4py": "pools.MPI",
    "mpi4py, busy": "pools.BusyMPI",
}
"""Module and class of each system."""

NEEDS = {
    "loky": "loky",
    "joblib": "joblib",
    "ipyparallel": "ipyparallel",
    "ipyparallel, 200 ms": "ipyparallel",
    "dask": "distributed",
    "ray": "ray",
    "mpi4py": "mpi4py",
    "mpi4py, busy": "mpi4py",
}
"""Which peer has to be installed; the others need nothing."""

LAUNCHERS = {"mpi4py": ["mpiexec", "-n", "1"], "mpi4py, busy": ["mpiexec", "-n", "1"]}
"""What starts the client."""

ENVIRONMENT = {
    "mpi4py, busy": {"MPI4PY_FUTURES_BACKOFF": "0"},
    "ray": {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
}
"""What it finds in its environment."""


def make(name: str) -> System:
    """A system that is not started yet. Imports what it needs."""
    module, _, kind = PLACES[name].partition(".")
    system: System = getattr(import_module(f"benchmarks.systems.{module}"), kind)()
    return system
