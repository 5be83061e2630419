"""Controllers as several tests begin with them."""

from __future__ import annotations

import pytest

from tests.core.cluster import Controller


@pytest.fixture
def two() -> Controller:
    """Two engines, one client."""
    controller = Controller()
    controller.engine("b0")
    controller.engine("b1")
    controller.client()
    return controller
