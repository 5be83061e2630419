"""Options of engines that run elsewhere: over ssh, as MPI ranks, under a batch system, in Dask or Ray, in pods."""

from __future__ import annotations

from traitlets import Bool, Dict, Enum, Float, Integer, List, Unicode
from traitlets.config import Configurable


class ParallelSSH(Configurable):
    """Engines on other hosts, started through the OpenSSH client: ``--engines=ssh``."""

    hosts = List(
        Unicode(),
        help="Hosts and how many engines each is to have, as `HOST:N` or `USER@HOST:N`; HOST is whatever "
        "~/.ssh/config knows.",
    ).tag(config=True)
    python = Unicode("python3", help="Python on the hosts, 3.11 or newer.").tag(config=True)
    pythons = Dict(value_trait=Unicode(), help="Another Python for single hosts, by their names in `hosts`.").tag(
        config=True
    )
    script = Unicode("", help="Shell script on the hosts that is sourced before Python starts.").tag(config=True)
    scripts = Dict(value_trait=Unicode(), help="Another script for single hosts.").tag(config=True)
    options = List(Unicode(), help="More options for ssh, such as `-p` and `2222`.").tag(config=True)
    tunnel = Bool(
        True,
        help="Whether engines reach the controller through the ssh connection. Without, they use its TCP port, "
        "which ParallelController.ip and port open.",
    ).tag(config=True)
    connect_timeout = Float(15.0, min=1, help="Seconds in which a host must answer.").tag(config=True)


class ParallelMPI(Configurable):
    """Engines as the ranks of one MPI job: ``--engines=mpi``."""

    mpiexec = Unicode("mpiexec", help="The command that starts the ranks.").tag(config=True)
    arguments = List(Unicode(), help="More arguments for it, such as `--hostfile` and a file.").tag(config=True)


class ParallelBatch(Configurable):
    """Engines as jobs of a batch system: ``--engines=slurm``, pbs, lsf, sge or htcondor."""

    queue = Unicode("", help="Queue or partition; empty is the system's own choice.").tag(config=True)
    account = Unicode("", help="Account that pays.").tag(config=True)
    time_limit = Unicode("", help="Time limit of each job, as the system writes it.").tag(config=True)
    cpus = Integer(1, min=1, help="Processors for each engine.").tag(config=True)
    memory = Unicode("", help="Memory of each job, as the system writes it.").tag(config=True)
    gpus = Integer(0, min=0, help="GPUs for each engine.").tag(config=True)
    lines = List(Unicode(), help="More lines for the job script, such as `#SBATCH --exclusive`.").tag(config=True)
    template = Unicode("", help="File with another job script; see `ipkernel_ext/launchers/templates`.").tag(
        config=True
    )
    script = Unicode("", help="Shell script that a job sources before Python starts.").tag(config=True)
    python = Unicode("", help="Python on the nodes; empty is the one that starts the cluster.").tag(config=True)
    engines_per_job = Integer(1, min=1, help="Engines of each job of an array, or of each task of one job.").tag(
        config=True
    )
    shape = Enum(
        ["array", "job"], "array", help="An array of jobs that start one by one, or one job whose tasks start together."
    ).tag(config=True)
    drain = Integer(
        60, min=0, help="Seconds before the time limit in which engines get nothing new; 0 lets them run into it."
    ).tag(config=True)
    poll = Float(2.0, min=0.1, help="Seconds between two questions to the batch system.").tag(config=True)


class ParallelGuest(Configurable):
    """Engines inside a cluster of somebody else: ``--engines=dask`` or ray."""

    address = Unicode(
        "", help="Where that cluster is: `tcp://HOST:PORT` of Dask's scheduler, `HOST:PORT` of Ray's head node."
    ).tag(config=True)
    cpus = Float(1.0, min=0, help="Processors that each engine claims of a Ray cluster.").tag(config=True)
    gpus = Float(0.0, min=0, help="GPUs that each engine claims of a Ray cluster.").tag(config=True)


class ParallelKubernetes(Configurable):
    """What ``ipcluster kubernetes`` writes: a controller and engines as pods."""

    image = Unicode("", help="Container image that has this package; of controller and engines.").tag(config=True)
    name = Unicode("ipcluster", help="Of this cluster: what all names of its objects begin with.").tag(config=True)
    namespace = Unicode("", help="Namespace of the objects; empty is that of whoever applies them.").tag(config=True)
    port = Integer(5555, min=1, max=65535, help="TCP port of the controller and its service.").tag(config=True)
    engines_per_pod = Integer(1, min=1, help="Engines that share a pod.").tag(config=True)
    cpus = Float(1.0, min=0.001, help="Processors for each engine; requested, and the limit.").tag(config=True)
    memory = Unicode("", help="Memory of each pod of engines, such as `8Gi`; requested, and the limit.").tag(
        config=True
    )
    gpus = Integer(0, min=0, help="GPUs for each engine.").tag(config=True)
    gpu_resource = Unicode("nvidia.com/gpu", help="What the cluster's device plugin calls a GPU.").tag(config=True)
    node_selector = Dict(value_trait=Unicode(), help="Labels of the nodes that engines may run on.").tag(config=True)
    pull_policy = Enum(
        ["", "Always", "IfNotPresent", "Never"], "", help="When the image is pulled; empty is the cluster's own rule."
    ).tag(config=True)
    pull_secret = Unicode("", help="Name of the secret by which the image is pulled.").tag(config=True)
    service_account = Unicode("", help="Service account of the pods, which get no token of it.").tag(config=True)
    python = Unicode("python3", help="Python in the image.").tag(config=True)
    template = Unicode("", help="File with other manifests; see `ipkernel_ext/launchers/templates`.").tag(config=True)


def classes_for(where: str) -> tuple[type[Configurable], ...]:
    """Those that have options for engines at this place; no two of them share a name."""
    if where == "local":
        return ()
    return (
        {"ssh": ParallelSSH, "mpi": ParallelMPI, "dask": ParallelGuest, "ray": ParallelGuest}.get(where, ParallelBatch),
    )


CLASSES: tuple[type[Configurable], ...] = (ParallelSSH, ParallelMPI, ParallelBatch, ParallelGuest, ParallelKubernetes)
