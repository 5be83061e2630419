"""Where user code spends its time: what is charged to what, and that it ends."""

import sys
import threading
import time

from ipkernel_ext.execution import sampling
from ipkernel_ext.execution.sampling import OTHERS, Samplers, Samples, label


def here():
    return sys._getframe()


def there():
    return sys._getframe()


def test_time_goes_to_the_stack_that_is_there_computing_and_waiting_apart():
    samples = Samples(10.0, 1.0)
    samples.add([here()], 11.0, 2.0)
    samples.add([there(), here()], 13.0, 2.5)
    samples.add([], 14.0, 2.5)
    samples.add([here()], 15.0, 9.0)
    told = samples.told()
    names = told["labels"]
    stacks = {tuple(names[i] for i in indices): (computing, waiting) for indices, computing, waiting in told["stacks"]}
    assert stacks[(label(here()),)] == (2.0, 0.0), "no more than has passed"
    assert stacks[(label(here()), label(there()))] == (0.5, 1.5)
    assert told["idle"] == 1.0
    assert told["seconds"] == 5.0


def test_there_is_an_end_to_how_many_stacks_are_kept(monkeypatch):
    monkeypatch.setattr(sampling, "STACKS", 1)
    samples = Samples(0.0, 0.0)
    samples.add([here()], 1.0, 1.0)
    samples.add([there()], 2.0, 2.0)
    told = samples.told()
    assert [told["labels"][stack[0][0]] for stack in told["stacks"]] == [label(here()), *OTHERS]


def test_samplers_are_apart_and_end(monkeypatch):
    looked = threading.Semaphore(0)

    def frames(frame):
        looked.release()
        return [frame]

    samplers = Samplers(threading.get_ident(), frames)
    samplers.begin("a", 0.001, 60.0)
    samplers.begin("b", 0.001, 60.0)
    for _ in range(10):
        assert looked.acquire(timeout=20)
    a, b = samplers.end("a"), samplers.end("b")
    assert a["stacks"] and b["stacks"]
    assert not [thread for thread in threading.enumerate() if thread.name == "ipkernel_ext samples"]
    assert samplers.end("a") == {"labels": [], "stacks": [], "idle": 0.0, "seconds": 0.0}


def test_one_that_nobody_ends_ends_itself():
    samplers = Samplers(threading.get_ident(), lambda frame: [])
    samplers.begin("a", 0.001, 0.0)
    sampler = samplers._running["a"]
    sampler._thread.join(20)
    assert not sampler._thread.is_alive()


def test_the_clock_is_of_the_thread_that_is_looked_at():
    used = sampling._clock_of(threading.get_ident())
    before, until = used(), time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    assert used() - before >= 0.05
