"""Balanced work."""

import concurrent.futures

import pytest

from ipkernel_ext.errors import CompositeError, DependencyFailed, NoEngines, NoSuchEngine


def test_submit_is_a_future(rc):
    future = rc.submit(pow, 2, 5)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 32
    futures = [rc.submit(abs, -i) for i in range(20)]
    done, pending = concurrent.futures.wait(futures)
    assert not pending
    assert sorted(f.result() for f in concurrent.futures.as_completed(done)) == list(range(20))


def test_the_first_exception_can_be_waited_for(rc):
    failed = rc.submit(divmod, 1, 0)
    done, _ = concurrent.futures.wait([failed], return_when=concurrent.futures.FIRST_EXCEPTION)
    assert done == {failed}
    with pytest.raises(ZeroDivisionError):
        failed.result()


def test_map_keeps_order_whatever_the_chunks(rc):
    for chunksize in ("auto", 1, 3, 1000):
        assert rc.map(abs, range(-20, 20), chunksize=chunksize) == [abs(x) for x in range(-20, 20)]
    assert sorted(rc.map(abs, range(-5, 5), ordered=False)) == sorted(abs(x) for x in range(-5, 5))


def test_map_of_several_sequences_and_of_none(rc):
    assert rc.map(pow, [2, 3, 4], [3, 2]) == [8, 9]
    assert rc.map(abs, []) == []
    with pytest.raises(TypeError, match="at least one"):
        rc.map(abs)
    with pytest.raises(ValueError, match="chunksize"):
        rc.map(abs, [1], chunksize=0)


def test_the_first_failing_item_in_order_is_raised_with_its_index(rc):
    with pytest.raises(ZeroDivisionError) as raised:
        rc.map(lambda x: 1 / x, [1, 2, 0, 4, 0], chunksize=1)
    assert "item 2" in "".join(raised.value.__notes__)


def test_exceptions_as_values(rc):
    values = rc.map(lambda x: 1 / x, [1, 0, 2], return_exceptions=True)
    assert values[::2] == [1, 0.5]
    assert isinstance(values[1], ZeroDivisionError)


def test_a_map_on_a_view_stays_there(rc):
    rc.execute("import os")
    there = set(rc[1:3].apply(eval("lambda: id(get_ipython())", {})))
    assert set(rc[1:3].map(eval("lambda x: id(get_ipython())", {}), range(10))) <= there


def test_balanced_work_stays_on_its_targets(rc):
    for futures in (
        [rc[1:3].submit(abs, -i) for i in range(20)],
        [rc.submit(abs, -i, targets="1,2") for i in range(20)],
        [rc.submit(abs, -i, targets=[0, 1, 2], on=[1, 2, 3]) for i in range(20)],
    ):
        assert [f.get() for f in futures] == list(range(20))
        assert {f.engine_ids[0] for f in futures} <= {1, 2}
    result = rc.map(abs, range(-20, 0), targets=[3], chunksize=1, block=False)
    assert result.get() == list(range(20, 0, -1))
    assert set(result.engine_ids) == {3}


def test_where_nothing_can_run_is_said_before_anything_is_sent(rc):
    with pytest.raises(NoEngines, match="none of the targets"):
        rc.submit(abs, -1, targets=[0, 1], on=2)
    with pytest.raises(NoEngines, match="none of the targets"):
        rc[0].apply(abs, -1, on=[1, 2])
    with pytest.raises(NoSuchEngine):
        rc.submit(abs, -1, on=7)


def test_apply_is_narrowed_by_on(rc):
    assert rc.apply(abs, -1, on=[1, 2]) == [1, 1]
    assert rc[2].apply(abs, -1, on=[1, 2]) == 1


def test_every_other_keyword_goes_to_the_function(rc):
    assert rc.submit(dict, timeout=1, seed=2).get() == {"timeout": 1, "seed": 2}
    assert rc[0].apply(dict, timeout=1, progress=2) == {"timeout": 1, "progress": 2}
    assert rc.submit(abs, -1, block=True) == 1


def test_a_call_comes_after_others(rc):
    first = rc.submit(abs, -1)
    second = rc.map(abs, [1, 2], block=False)
    third = rc.submit(abs, -3, after=[first, second])
    fourth = rc.apply(abs, -4, after=third, block=False)
    assert third.get() == 3
    assert fourth.get() == [4] * 4
    assert rc.submit(abs, -5, after=third.task_ids[0]).get() == 5
    assert rc.submit(abs, -6, after=[]).get() == 6


def test_what_comes_after_a_failure_says_so_and_is_not_run(rc):
    failed = rc.submit(divmod, 1, 0)
    after = rc.submit(abs, -1, after=failed)
    with pytest.raises(DependencyFailed, match=f"{failed.task_ids[0]}.*ZeroDivisionError"):
        after.get()
    assert failed.exception() is not None
    for again in (rc.submit(abs, -1, after=failed), rc.submit(abs, -1, after=after)):
        with pytest.raises(DependencyFailed):
            again.get()
    with pytest.raises(CompositeError):
        rc.apply(abs, -1, after=failed)


@pytest.mark.parametrize(
    ("after", "error"),
    [(1, TypeError), ([1], TypeError), ("x", ValueError), (":1", ValueError), (concurrent.futures.Future(), TypeError)],
)
def test_what_nothing_can_come_after_is_refused_at_once(rc, after, error):
    with pytest.raises(error):
        rc.submit(abs, -1, after=after)
    with pytest.raises(error):
        rc.apply(abs, -1, after=after)


def test_parallelize(rc):
    @rc.parallelize
    def square(x):
        return x * x

    assert square(range(5)) == [0, 1, 4, 9, 16]
    assert rc.parallelize(abs)([-1, -2]) == [1, 2]


def test_iteration_and_len_are_per_item(rc):
    result = rc.map(abs, range(-6, 0), chunksize=4, block=False)
    assert len(result) == 6
    assert list(result) == [6, 5, 4, 3, 2, 1]
    assert result.progress == 6


def test_non_blocking_results(rc):
    result = rc.execute("print('x'); 5", block=False)
    assert result.get() is result.r
    assert result.ready()
    assert result.done()
    assert result.successful()
    assert result.engine_ids == [0, 1, 2, 3]
    assert result.stdout == ["x\n"] * 4
    assert [r["status"] for r in result.metadata] == ["ok"] * 4
    assert [r.value for r in result] == [5] * 4
    assert result.elapsed >= 0
    assert bool(result)


def test_a_callback_runs_when_it_is_done(rc):
    import threading

    called = threading.Event()
    rc.submit(abs, -1).add_done_callback(lambda f: called.set())
    assert called.wait(10)


@pytest.mark.parametrize(("retries", "error"), [(-1, ValueError), (1.5, TypeError), ("x", TypeError)])
def test_retries_that_make_no_sense_are_refused_at_once(rc, retries, error):
    with pytest.raises(error, match="retries"):
        rc.submit(abs, -1, retries=retries)
    with pytest.raises(error, match="retries"):
        rc.map(abs, range(5), retries=retries)


def test_a_result_is_indexed_by_engine_or_item(rc):
    ran = rc.execute("6 * 7", block=False)
    assert [ran[n].engine_id for n in range(4)] == [0, 1, 2, 3]
    assert ran[-1].value == 42
    assert ran.get()[1] is ran[1]
    assert [one.value for one in ran[1:3]] == [42, 42]
    assert rc[2].apply(abs, -2, block=False)[0] == 2
    assert rc.submit(abs, -3)[0] == 3
    mapped = rc.map(abs, range(-30, 0), block=False)
    assert (mapped[0], mapped[-1], mapped[1:3]) == (30, 1, [29, 28])
    rc.push({"n": [1, 2]})
    assert rc.gather("n", block=False)[:3] == [1, 2, 1]
    with pytest.raises(IndexError):
        ran[4]


def test_an_engines_value_is_there_though_another_engine_failed(rc):
    rc.execute("n = 1")
    rc[1].execute("n = 0")
    failed = rc.execute("1 // n", block=False)
    assert failed[0].value == 1
    with pytest.raises(ZeroDivisionError):
        failed[1]
