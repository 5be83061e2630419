"""Kubernetes: manifests of a controller and of engines as pods, for ``kubectl apply``.

Nothing is started from here and no API server is asked: it is Kubernetes that starts the pods, starts
ended ones again, and is asked for more. Keys are made beforehand and travel as a secret, which pods see
as files; so none is in a command or an environment. Options that differ from their defaults travel as
config files of the default profile there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from ipkernel_ext.config import addresses, connection
from ipkernel_ext.config.keys import ClusterKeys
from ipkernel_ext.config.resolved import ControllerSettings, EngineSettings, KubernetesSettings, Settings
from ipkernel_ext.launchers.scripts import TEMPLATES, render

NAMES = {"name": (r"[a-z]([-a-z0-9]*[a-z0-9])?", 40), "namespace": (r"[a-z0-9]([-a-z0-9]*[a-z0-9])?|", 63)}
"""What they may be, and of how many characters: services and pods have names that begin with the cluster's."""
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([EPTGMk]|[EPTGMK]i)?")


def manifests(settings: Settings, keys: ClusterKeys) -> str:
    """The manifests, as YAML. They hold the keys.

    Raises
    ------
    ValueError
        An option that cannot be, or a field of the template that does not exist; names it.
    """
    given = settings.kubernetes
    _check(given, settings.cluster.n)
    pods, engines = settings.cluster.n // given.engines_per_pod, given.engines_per_pod
    keys = msgspec.structs.replace(keys, port=given.port)
    secrets = {
        "controller.key": msgspec.json.encode(keys),
        "engine.json": _connection("engine", given, keys),
        "client.json": _connection("client", given, keys),
    }
    controller = replace(settings.controller, ip="*", port=given.port, location=given.name)
    config = {
        "ipcontroller_config.py": config_file("ParallelController", controller, ControllerSettings()),
        "ipengine_config.py": config_file("ParallelEngine", settings.engine, EngineSettings()),
    }
    whole = json.dumps([config, {name: text.decode() for name, text in secrets.items()}])
    fields = {
        **{f"secret.{name}": _quoted(text.decode()) for name, text in secrets.items()},
        **{f"config.{name}": _quoted(text) for name, text in config.items()},
        **{f"{part}_name": _quoted(f"{given.name}-{part}") for part in ("keys", "config", "controller", "engines")},
        **{name: _quoted(value) for name, value in asdict(given).items() if isinstance(value, str)},
        "port": str(given.port),
        "pods": str(pods),
        "engines_per_pod": str(engines),
        "cpus": _quoted(f"{given.cpus * engines:g}"),
        "gpus": _quoted(str(given.gpus * engines or "")),
        "gpu_resource": _quoted(given.gpu_resource if given.gpus else ""),
        "node_selector": json.dumps(given.node_selector, ensure_ascii=False) if given.node_selector else "",
        "python": given.python,
        "checksum": _quoted(hashlib.sha256(whole.encode()).hexdigest()),
    }
    path = Path(given.template).expanduser() if given.template else TEMPLATES / "kubernetes.yaml"
    return render(path, fields)


def _check(given: KubernetesSettings, n: int) -> None:
    if not n:
        raise ValueError("how many engines? -n 16, or c.ParallelCluster.n in the profile")
    if n % given.engines_per_pod:
        raise ValueError(
            f"{n} engines cannot be in pods of {given.engines_per_pod} each: ParallelKubernetes.engines_per_pod"
        )
    if not given.image:
        raise ValueError("which image? --image REGISTRY/NAME:TAG, or c.ParallelKubernetes.image in the profile")
    for option, (pattern, longest) in NAMES.items():
        value = getattr(given, option)
        if not re.fullmatch(pattern, value) or len(value) > longest:
            raise ValueError(
                f"ParallelKubernetes.{option} cannot be {value!r}: Kubernetes takes small letters, digits and -, "
                f"{longest} at most here, a letter first, a letter or digit last"
            )
    if given.memory and not QUANTITY.fullmatch(given.memory):
        raise ValueError(
            f"ParallelKubernetes.memory cannot be {given.memory!r}; it is a number of bytes, or as 8Gi or 500M"
        )
    if not re.fullmatch(r"[-\w./+@]+", given.python):
        raise ValueError(f"ParallelKubernetes.python cannot be {given.python!r}; it is the name or path of a program")


def _connection(role: str, given: KubernetesSettings, keys: ClusterKeys) -> bytes:
    """A connection file that leads to the service."""
    tcp = [addresses.url(given.name, given.port)]
    return connection.content(connection.Connection("", 0, 0, "", "", role, tcp, keys.of(role)))


def config_file(name: str, settings: ControllerSettings | EngineSettings, defaults: Any) -> str:
    """A config file with the options of this class that differ from their defaults."""
    lines = ["c = get_config()"]
    standard = asdict(defaults)
    for option, value in asdict(settings).items():
        if value != standard[option]:
            lines.append(f"c.{name}.{option} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(list(value) if isinstance(value, tuple) else value)


def _quoted(text: str) -> str:
    """A string as YAML has it in double quotes; "" for an empty one, whose line is left out."""
    return json.dumps(text, ensure_ascii=False) if text else ""
