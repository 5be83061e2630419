"""Manifests for Kubernetes, read by its official client; and the pods' commands, run here as processes.

No real cluster runs them.
"""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiClient

from ipkernel_ext import RemoteController
from ipkernel_ext.config import keys
from ipkernel_ext.config.resolved import (
    ClusterSettings,
    ControllerSettings,
    EngineSettings,
    KubernetesSettings,
    Settings,
)
from ipkernel_ext.launchers.kubernetes import manifests
from tests.cluster.programs import ipcluster

GOLDEN = Path(__file__).parent / "golden"
KEYS = keys.ClusterKeys(
    *(keys.Pair(f"public of {name}", f"secret of {name}") for name in ("server", "client", "engine")),
    run=keys.Pair("public of run", "secret of run"),
    read=keys.Pair("public of read", "secret of read"),
)
SMALL = Settings(ClusterSettings(n=4), kubernetes=KubernetesSettings(image="registry/engines:1"))
FULL = Settings(
    ClusterSettings(n=8),
    ControllerSettings(result_ttl=60.0, engine_grace=float("inf")),
    EngineSettings(exec_lines=("print(\"{{name}} \\ 'né' 😀\")",), tags=("pod",)),
    kubernetes=KubernetesSettings(
        image="registry:5000/team/engines@sha256:0123",
        name="no",
        namespace="science",
        port=6000,
        engines_per_pod=4,
        cpus=1.5,
        memory="16Gi",
        gpus=1,
        node_selector={"gpu": "true", "zone": "b"},
        pull_policy="IfNotPresent",
        pull_secret="registry",
        service_account="engines",
        python="/opt/python/bin/python3",
    ),
)
MODELS = {"Secret": "V1Secret", "ConfigMap": "V1ConfigMap", "Service": "V1Service", "Deployment": "V1Deployment"}


def documents(settings, cluster_keys=KEYS):
    """The objects, by kind and name."""
    return {
        (each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(manifests(settings, cluster_keys))
    }


def model_of(document):
    """The client's own object, which checks what has to be there."""
    return ApiClient().deserialize(json.dumps(document), MODELS[document["kind"]], "application/json")


@pytest.mark.parametrize(("kind", "settings"), [("small", SMALL), ("full", FULL)])
def test_manifests_are_as_they_were_seen_to_be_right(kind, settings):
    text = manifests(settings, KEYS)
    golden = GOLDEN / f"kubernetes-{kind}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("settings", [SMALL, FULL])
def test_the_official_client_knows_every_field(settings):
    found = documents(settings)
    assert sorted(kind for kind, _ in found) == ["ConfigMap", "Deployment", "Deployment", "Secret", "Service"]
    for document in found.values():
        assert ApiClient().sanitize_for_serialization(model_of(document)) == document


@pytest.mark.parametrize("settings", [SMALL, FULL])
def test_objects_fit_together(settings):
    given = settings.kubernetes
    found = documents(settings)
    assert {document["metadata"].get("namespace", "") for document in found.values()} == {given.namespace}
    service = found["Service", given.name]["spec"]
    controller = found["Deployment", f"{given.name}-controller"]["spec"]
    engines = found["Deployment", f"{given.name}-engines"]["spec"]
    assert controller["replicas"] == 1
    assert engines["replicas"] * given.engines_per_pod == settings.cluster.n
    for workload in (controller, engines):
        labels = workload["template"]["metadata"]["labels"]
        assert workload["selector"]["matchLabels"].items() <= labels.items()
        assert (service["selector"].items() <= labels.items()) == (workload is controller)
        pod = workload["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == set(volumes)
        secret = found["Secret", volumes["keys"]["secret"]["secretName"]]
        assert {item["key"] for item in volumes["keys"]["secret"]["items"]} <= set(secret["stringData"])
        assert ("ConfigMap", volumes["config"]["configMap"]["name"]) in found
    (port,) = service["ports"]
    assert (
        port["targetPort"] == controller["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] == given.port
    )


def test_no_key_is_anywhere_but_in_the_secret():
    found = documents(FULL)
    secret = found.pop(("Secret", "no-keys"))
    assert "secret of engine" in secret["stringData"]["engine.json"]
    assert "secret of" not in str(found)
    assert "secret of server" not in secret["stringData"]["engine.json"]
    (mounted,) = [
        volume["secret"]["items"]
        for volume in found["Deployment", "no-engines"]["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "keys"
    ]
    assert mounted == [{"key": "engine.json", "path": "engine.json"}], "an engine's pod cannot act as a client"


def test_what_an_engine_asks_for_is_asked_for_each_of_a_pod():
    resources = documents(FULL)["Deployment", "no-engines"]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "6", "memory": "16Gi", "nvidia.com/gpu": "4"}
    assert resources["requests"] == resources["limits"]
    resources = documents(SMALL)["Deployment", "ipcluster-engines"]["spec"]["template"]["spec"]["containers"][0][
        "resources"
    ]
    assert resources["limits"] == {"cpu": "1"}


def test_options_travel_as_config_files():
    config = documents(FULL)["ConfigMap", "no-config"]["data"]
    assert "c.ParallelController.result_ttl = 60.0\n" in config["ipcontroller_config.py"]
    assert "c.ParallelController.engine_grace = float('inf')\n" in config["ipcontroller_config.py"]
    assert "c.ParallelController.location = 'no'\n" in config["ipcontroller_config.py"]
    assert "share_above" not in config["ipcontroller_config.py"], "it has its default"
    assert f"c.ParallelEngine.exec_lines = {list(FULL.engine.exec_lines)!r}\n" in config["ipengine_config.py"]


def test_pods_are_new_when_keys_or_options_are():
    def checksum(settings, cluster_keys):
        found = documents(settings, cluster_keys)["Deployment", "ipcluster-engines"]
        return found["spec"]["template"]["metadata"]["annotations"]["ipkernel-ext/checksum"]

    assert checksum(SMALL, KEYS) == checksum(replace(SMALL, cluster=ClusterSettings(n=8)), KEYS)
    assert checksum(SMALL, KEYS) != checksum(SMALL, keys.make())
    assert checksum(SMALL, KEYS) != checksum(replace(SMALL, engine=EngineSettings(tags=("x",))), KEYS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "My_cluster"}, r"ParallelKubernetes.name cannot be 'My_cluster': .* small letters"),
        ({"name": "4you"}, "ParallelKubernetes.name .* a letter first"),
        ({"name": "x" * 41}, "ParallelKubernetes.name .* 40 at most"),
        ({"namespace": "a.b"}, "ParallelKubernetes.namespace cannot be 'a.b'"),
        ({"memory": "8 GB"}, "ParallelKubernetes.memory cannot be '8 GB'; it is a number of bytes, or as 8Gi"),
        ({"python": "python; true"}, "ParallelKubernetes.python cannot be 'python; true'"),
        ({"image": ""}, "which image"),
        ({"engines_per_pod": 3}, "4 engines cannot be in pods of 3 each: ParallelKubernetes.engines_per_pod"),
        ({"template": "/no/such/file"}, "the template /no/such/file cannot be read"),
    ],
)
def test_what_cannot_be_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        manifests(replace(SMALL, kubernetes=replace(SMALL.kubernetes, **options)), KEYS)


def test_the_number_of_engines_has_to_be_said():
    with pytest.raises(ValueError, match="how many engines"):
        manifests(replace(SMALL, cluster=ClusterSettings()), KEYS)


def test_a_field_that_does_not_exist_is_named(tmp_path):
    template = tmp_path / "pods.yaml"
    template.write_text("image: {{image}}\nname: {{nmae}}\n")
    said = ipcluster("kubernetes", "-n", "4", "--image=x", f"--ParallelKubernetes.template={template}")
    assert said.returncode == 1
    assert f"{template}, line 2: there is no field {{{{nmae}}}}: did you mean name?" in said.stderr


def test_the_file_is_for_this_user_only(tmp_path):
    path = tmp_path / "cluster.yaml"
    wrote = ipcluster("kubernetes", "-n", "2", "--image=x:1", "--namespace=lab", "-o", str(path))
    assert (wrote.returncode, wrote.stdout) == (0, ""), wrote.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each["metadata"]["namespace"] for each in yaml.safe_load_all(path.read_text())] == ["lab"] * 5


class Kubelet:
    """Runs the container of a pod as a process here: its volumes are directories, its mounts the paths to them."""

    def __init__(self, found, home):
        self._found = found
        self._home = home
        self._processes = []

    def start(self, name, node):
        """Run the container of a deployment's pod on this node; its volumes are there if it was there before."""
        home = self._home / f"{name}-{node}"
        pod = self._found["Deployment", name]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (home / "run").mkdir(parents=True, exist_ok=True)
        for volume in pod["volumes"]:
            if (home / volume["name"]).exists():
                continue
            if "secret" in volume:
                data = self._found["Secret", volume["secret"]["secretName"]]["stringData"]
                self._mount(home / volume["name"], data, [item["key"] for item in volume["secret"]["items"]], 0o440)
            else:
                data = self._found["ConfigMap", volume["configMap"]["name"]]["data"]
                self._mount(home / volume["name"], data, data, 0o644)
        mounts = {mount["mountPath"]: str(home / mount["name"]) for mount in container["volumeMounts"]}

        def inside(text):
            for path, directory in mounts.items():
                text = text.replace(path, directory)
            return text

        environment = {each["name"]: inside(each["value"]) for each in container["env"]}
        process = subprocess.Popen(
            [inside(word) for word in container["command"] + container["args"]],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    @staticmethod
    def _mount(directory, data, names, mode):
        """As Kubernetes does it: the names are links."""
        (directory / "..data").mkdir(parents=True)
        for name in names:
            path = directory / "..data" / name
            path.write_text(data[name])
            path.chmod(mode)
            (directory / name).symlink_to(Path("..data") / name)

    def close(self):
        """End all pods as Kubernetes does."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.communicate(timeout=20)


@pytest.mark.timeout(120)
def test_the_pods_commands_make_a_cluster(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = KubernetesSettings(image="x", name="localhost", port=port, engines_per_pod=2, python=sys.executable)
    settings = Settings(ClusterSettings(n=4), engine=EngineSettings(tags=("pod",)), kubernetes=options)
    found = documents(settings, keys.make())
    file = tmp_path / "client.json"
    file.write_text(found["Secret", "localhost-keys"]["stringData"]["client.json"])
    file.chmod(0o600)
    with contextlib.closing(Kubelet(found, tmp_path / "pods")) as kubelet:
        controller = kubelet.start("localhost-controller", 0)
        assert controller.stdout.readline().startswith("controller listens at")
        for node in range(2):
            kubelet.start("localhost-engines", node)
        with RemoteController(connection_file=file) as rc:
            rc.wait_for_engines(4, 60)
            assert rc["tag:pod"].apply(abs, -1) == [1, 1, 1, 1]
            rc.push({"kept": 5})
            controller.kill()
            controller.wait()
            again = kubelet.start("localhost-controller", 0)
            assert rc.pull("kept") == [5, 5, 5, 5]
        again.kill()
        again.wait()
        elsewhere = kubelet.start("localhost-controller", 1)
        assert elsewhere.stdout.readline().startswith("controller listens at")
        with RemoteController(connection_file=file) as rc:
            rc.wait_for_engines(4, 60)
            assert rc.pull("kept") == [5, 5, 5, 5]
