"""Fixtures for tests of code that uses engines; pytest finds them by itself where this package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ipkernel_ext.remote import RemoteController
    from ipkernel_ext.testing import InProcessCluster

ENGINES = 4


@pytest.fixture
def ipkernel_cluster(request: pytest.FixtureRequest) -> InProcessCluster:
    """A cluster inside this process, with four engines, or as many as an indirect parameter says."""
    from ipkernel_ext.testing import InProcessCluster

    return InProcessCluster(getattr(request, "param", ENGINES))


@pytest.fixture
def ipkernel_client(ipkernel_cluster: InProcessCluster) -> RemoteController:
    """A client of ``ipkernel_cluster``."""
    return ipkernel_cluster.client()
