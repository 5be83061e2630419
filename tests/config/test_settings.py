"""Options: their defaults, their limits, and what is said of misspelt ones."""

from __future__ import annotations

import dataclasses

import pytest
from traitlets import List, Unicode
from traitlets.config import Config, Configurable
from traitlets.config.loader import DeferredConfigString

from ipkernel_ext.config import resolved, settings
from ipkernel_ext.config.cores import cores

MADE = [
    (settings.ParallelController, settings.controller_settings, resolved.ControllerSettings),
    (settings.ParallelEngine, settings.engine_settings, resolved.EngineSettings),
    (settings.ParallelCluster, settings.cluster_settings, resolved.ClusterSettings),
    (settings.ParallelSSH, lambda config: settings.settings_of(config).ssh, resolved.SSHSettings),
    (settings.ParallelMPI, lambda config: settings.settings_of(config).mpi, resolved.MPISettings),
    (settings.ParallelBatch, lambda config: settings.settings_of(config).batch, resolved.BatchSettings),
    (settings.ParallelGuest, lambda config: settings.settings_of(config).guest, resolved.GuestSettings),
    (settings.ParallelKubernetes, lambda config: settings.settings_of(config).kubernetes, resolved.KubernetesSettings),
]


@pytest.mark.parametrize(("options", "make", "kind"), MADE)
def test_defaults_are_said_twice_alike(options, make, kind) -> None:
    assert make(Config()) == kind()
    assert {field.name for field in dataclasses.fields(kind)} == set(options.class_trait_names(config=True))


@pytest.mark.parametrize("kind", settings.CLASSES)
def test_every_option_has_its_help(kind) -> None:
    for name, trait in kind.class_traits(config=True).items():
        assert trait.help.endswith("."), name


@pytest.mark.parametrize("kind", [kind for _, _, kind in MADE])
def test_settings_are_frozen(kind) -> None:
    made = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(kind)[0].name, 1)


def test_values_arrive() -> None:
    config = Config()
    config.ParallelController.recovery_window = 2.5
    config.ParallelCluster.n = 3
    config.ParallelCluster.restart = "never"
    assert settings.controller_settings(config) == resolved.ControllerSettings(recovery_window=2.5)
    assert settings.cluster_settings(config) == resolved.ClusterSettings(n=3, restart="never")


def test_text_of_a_command_line_is_converted() -> None:
    config = Config()
    config.ParallelController.result_ttl = DeferredConfigString("60")
    assert settings.controller_settings(config).result_ttl == 60.0


def test_a_misspelt_option_names_the_right_one() -> None:
    config = Config()
    config.ParallelController.recovery_windw = 3
    with pytest.raises(
        ValueError, match=r"ParallelController has no option 'recovery_windw': did you mean recovery_window\?"
    ):
        settings.controller_settings(config)


def test_an_unknown_option_lists_all() -> None:
    config = Config()
    config.ParallelCluster.zzz = 3
    with pytest.raises(ValueError, match="it has engines, n, preload, restart, restart_limit, share_gpus"):
        settings.check(config)


def test_a_misspelt_option_of_another_of_our_classes_is_found_too() -> None:
    config = Config()
    config.ParallelMagics.autostat = False
    with pytest.raises(ValueError, match=r"did you mean autostart\?"):
        settings.cluster_settings(config)


def test_classes_of_others_are_left_alone() -> None:
    config = Config()
    config.IPController.hub_ip = "*"
    config.Cluster.engines = "mpi"
    config.IPClusterStart.n = 16
    settings.check(config)
    assert settings.cluster_settings(config) == resolved.ClusterSettings()


@pytest.mark.parametrize("name", ["ParalelCluster", "ParallelClusters", "parallelcluster", "ParallelMagic"])
def test_a_misspelt_class_is_an_error(name) -> None:
    config = Config()
    getattr(config, name).n = 3
    with pytest.raises(settings.OptionError, match=f"no class '{name}': did you mean Parallel(Cluster|Magics)"):
        settings.check(config)


@pytest.mark.parametrize("name", ["Parallel", "ParallelJob", "IPController", "ParallelClient", "Cluster"])
def test_a_class_that_is_only_similar_is_left_alone(name) -> None:
    assert settings.near_class(name) is None


def test_lists_that_are_added_to_are_checked_and_stay(monkeypatch) -> None:
    class ParallelExample(Configurable):
        names = List(Unicode(), ["x"], help="Names.").tag(config=True)

    monkeypatch.setattr(settings, "CLASSES", (ParallelExample,))
    config = Config()
    config.ParallelExample.names.append("y")
    settings.check(config)
    settings.check(config)
    assert ParallelExample(config=config).names == ["x", "y"]
    config.ParallelExample.names = ["x", 3]
    with pytest.raises(
        settings.OptionError, match=r"cannot be \['x', 3\]; it takes a list, each item a unicode string"
    ):
        settings.check(config)


def test_names_do_not_clash_with_those_of_others() -> None:
    taken = {
        "IPController",
        "IPEngine",
        "IPCluster",
        "Cluster",
        "Client",
        "Hub",
        "Session",
        "Launcher",
        "Engine",
        "Controller",
    }
    assert not taken & {kind.__name__ for kind in settings.CLASSES}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("ParallelController", "recovery_window", -1),
        ("ParallelController", "recovery_window", DeferredConfigString("soon")),
        ("ParallelController", "result_ttl", "a day"),
        ("ParallelCluster", "n", -1),
        ("ParallelCluster", "n", DeferredConfigString("4.5")),
        ("ParallelCluster", "restart", "always"),
        ("ParallelCluster", "restart_limit", -1),
        ("ParallelEngine", "max_output", None),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_option(kind, name, value) -> None:
    config = Config()
    config[kind][name] = value
    make = {options.__name__: make for options, make, _ in MADE}[kind]
    with pytest.raises(ValueError, match=name):
        make(config)


def test_no_number_of_engines_is_one_per_core() -> None:
    assert resolved.ClusterSettings().number == cores()
    assert resolved.ClusterSettings(n=3).number == 3
