"""MPI jobs: an engine's id follows from its rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from ipkernel_ext.core import messages as m
from tests.core.cluster import Controller


class Job:
    """Ranks of one mpiexec."""

    def __init__(self, name: str, size: int, *, parent: int = 0, named: bool = True) -> None:
        self.name, self.size, self.parent = name, size, parent
        self.job = name if named else ""

    def boot(self, rank: int) -> str:
        return f"{self.name}{rank}"

    def hello(self, controller: Controller, rank: int, host: str = "here", generation: int = 1) -> int:
        """A rank says hello; the id it gets."""
        fields = {"rank": rank, "size": self.size, "job": self.job, "parent": self.parent, "host": host}
        controller.engine(self.boot(rank), generation=generation, **fields)
        (welcome,) = controller.to(self.boot(rank), m.WelcomeEngine)
        id: int = welcome.id
        return id

    def come(self, controller: Controller, ranks: Sequence[int] | None = None) -> list[int]:
        """These ranks say hello, in this order; their ids."""
        return [self.hello(controller, rank) for rank in (range(self.size) if ranks is None else ranks)]

    def end(self, controller: Controller) -> None:
        """All processes end."""
        for rank in range(self.size):
            controller.ended(self.boot(rank))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_id_is_the_rank_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    assert Job("a", 3).come(Controller(), order) == list(order)


@pytest.mark.parametrize("named", [True, False])
def test_the_next_job_gets_the_next_block_though_their_ranks_come_mixed(named: bool) -> None:
    controller = Controller()
    one, other = (Job(name, 3, parent=n, named=named) for n, name in enumerate("ab"))
    assert one.hello(controller, 2) == 2
    assert other.hello(controller, 1) == 4
    assert [one.hello(controller, 0), other.hello(controller, 0)] == [0, 3]
    assert [other.hello(controller, 2), one.hello(controller, 1)] == [5, 1]


def test_other_engines_do_not_get_a_reserved_id() -> None:
    controller = Controller()
    job = Job("a", 4)
    assert job.hello(controller, 3) == 3
    controller.engine("plain")
    assert controller.to("plain", m.WelcomeEngine) == [m.WelcomeEngine(4)]
    assert job.come(controller, [0, 1, 2]) == [0, 1, 2]


def test_where_an_id_is_taken_the_whole_block_moves() -> None:
    controller = Controller()
    for boot in ("b0", "b1"):
        controller.engine(boot)
    controller.ended("b0")
    assert Job("a", 3).come(controller, [1, 0, 2]) == [3, 2, 4]


def test_when_a_job_has_ended_its_ids_are_free_and_nothing_of_it_is_kept() -> None:
    controller = Controller()
    job = Job("a", 3)
    job.come(controller, [2, 0])
    assert len(controller.enlisted) == 3
    job.end(controller)
    assert controller.enlisted == {}
    assert Job("b", 3).come(controller) == [0, 1, 2]


def test_the_id_of_a_dead_rank_is_kept_for_its_job() -> None:
    controller = Controller()
    job = Job("a", 2)
    job.come(controller)
    controller.ended(job.boot(0))
    controller.engine("plain")
    assert controller.to("plain", m.WelcomeEngine) == [m.WelcomeEngine(2)]
    assert Job("b", 1).hello(controller, 0) == 3
    successor = {"rank": 0, "size": 2, "job": job.job}
    controller.engine("again", **successor)
    assert controller.to("again", m.WelcomeEngine) == [m.WelcomeEngine(0)]


def test_a_rank_that_was_away_keeps_its_id() -> None:
    controller = Controller()
    job = Job("a", 2)
    job.come(controller)
    controller.left(job.boot(1))
    assert job.hello(controller, 1, generation=2) == 1


def second_job_half_here() -> tuple[Controller, Job, Job]:
    controller = Controller()
    first, second = Job("a", 2), Job("b", 3)
    first.come(controller)
    second.come(controller, [1])
    return controller, first, second


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_after_a_restart_the_block_is_the_same_whoever_comes_first(order: tuple[int, ...]) -> None:
    before, first, second = second_job_half_here()
    controller = Controller(before)
    third = Job("c", 2)
    assert third.hello(controller, 1) == 6
    assert second.come(controller, order) == [2 + rank for rank in order]
    assert first.come(controller) == [0, 1]
    controller.wait(11.0)
    assert third.hello(controller, 0) == 5


def test_after_a_restart_a_job_that_was_complete_reserves_its_block_again() -> None:
    before = Controller()
    Job("a", 3).come(before)
    controller = Controller(before)
    Job("a", 3).hello(controller, 1)
    controller.wait(11.0)
    controller.engine("plain")
    assert controller.to("plain", m.WelcomeEngine) == [m.WelcomeEngine(3)]
    assert Job("a", 3).hello(controller, 2) == 2


def test_a_controller_that_died_while_it_reserved_goes_on_with_the_same_block() -> None:
    before = Controller()
    before.engine("b0")
    Job("a", 3).hello(before, 0)
    for id in (1, 2):  # the last id is written first
        del before.enlisted[id]
    controller = Controller(before)
    controller.engine("plain")
    assert controller.to("plain", m.WelcomeEngine) == [m.WelcomeEngine(4)]
    assert Job("a", 3).come(controller) == [1, 2, 3]


def test_after_the_window_nobody_waits_for_a_job_of_the_earlier_life() -> None:
    before, first, _ = second_job_half_here()
    controller = Controller(before)
    first.come(controller)
    controller.wait(11.0)
    assert sorted(controller.enlisted) == [0, 1]


def test_a_nameless_job_over_two_hosts_is_one() -> None:
    controller = Controller()
    on_here, on_there = (Job("a", 4, parent=parent, named=False) for parent in (10, 20))
    assert on_here.hello(controller, 1) == 1
    assert on_there.hello(controller, 3, "there") == 3
    assert on_there.hello(controller, 2, "there") == 2
    assert on_here.hello(controller, 0) == 0


def test_a_nameless_job_over_two_hosts_finds_its_block_after_a_restart() -> None:
    before = Controller()
    on_here, on_there = (Job("a", 3, parent=parent, named=False) for parent in (10, 20))
    on_here.hello(before, 0)
    on_there.hello(before, 2, "there")
    controller = Controller(before)
    assert on_there.hello(controller, 2, "there") == 2
    assert on_here.hello(controller, 1) == 1
    assert on_here.hello(controller, 0) == 0


def test_a_rank_outside_its_job_is_an_engine_like_any_other() -> None:
    controller = Controller()
    controller.engine("odd", rank=5, size=2, job="a")
    assert controller.to("odd", m.WelcomeEngine) == [m.WelcomeEngine(0)]


def test_two_engines_of_one_rank_do_not_share_an_id() -> None:
    controller = Controller()
    job = Job("a", 2)
    job.come(controller)
    controller.engine("twin", rank=1, size=2, job="a")
    assert controller.to("twin", m.WelcomeEngine) == [m.WelcomeEngine(2)]
    controller.ended("twin")
    assert sorted(controller.enlisted) == [0, 1]


def test_the_seat_of_a_rank_that_died_with_the_controller_stays_its_jobs() -> None:
    first = Controller()
    job = Job("a", 4)
    job.come(first)
    second = Controller(first)
    job.come(second, [0, 1, 2])
    second.wait(11.0)  # the last rank does not come
    second.ended(job.boot(1))
    third = Controller(second)
    job.come(third, [0, 2])
    third.engine("other")
    assert third.to("other", m.WelcomeEngine) == [m.WelcomeEngine(4)]
