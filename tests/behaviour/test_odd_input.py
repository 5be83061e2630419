"""Input that nobody expects is answered, and nothing else suffers from it."""

from concurrent.futures import Future, InvalidStateError

import pytest

from ipkernel_ext import RemoteController, launch
from ipkernel_ext.errors import NoEngines, NotConnected, PayloadError
from ipkernel_ext.testing import InProcessCluster


@pytest.mark.parametrize("code", [3, None, b"1"])
def test_code_that_is_no_string_is_refused(rc, code):
    with pytest.raises(TypeError, match="code is a string, not"):
        rc.execute(code)


def test_times_as_of_standard_futures(clusters):
    rc = clusters["forked"]
    endless = rc[0].execute("while True: pass", block=False)
    for timeout in (0, -1, 0.0):
        with pytest.raises(TimeoutError):
            endless.result(timeout)
        with pytest.raises(TimeoutError):
            endless.exception(timeout)
    with pytest.raises(TimeoutError, match="^not done after 0 s: 1 of 1 task goes on$"):
        endless.get(0)
    assert repr(endless) == "<AsyncResult: 0 of 1 done>"
    endless.cancel()
    assert endless.wait(1e300)


def test_what_cannot_be_encoded_fails_alone(clusters):
    rc = clusters["forked"]
    slow = rc[0].apply(abs, -1, block=False)
    with pytest.raises(PayloadError, match="this cannot be sent: .*surrogates not allowed"):
        rc[1].execute("open('\udcff')")
    assert slow.get(20) == 1
    assert rc.map(abs, [-1], retries=2**70) == [1]


def test_functions_that_look_at_their_caller_find_the_engines_namespace(rc):
    rc.push({"yy": 1})
    assert rc.apply(eval, "yy") == [1] * 4
    rc.apply(exec, "xx = 5")
    assert rc["xx"] == [5] * 4
    assert rc.map(eval, ["yy + 1"]) == [2]
    assert rc.apply(eval, "__name__") == ["__main__"] * 4


def test_a_namespace_with_names_that_are_none_has_keys(rc):
    rc.execute("a = 1; globals()[3] = 2")
    assert rc.keys() == [["a"]] * 4
    rc.execute("del globals()[3]")


def test_a_script_has_its_own_name_in_argv(rc, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(sys.argv)")
    assert rc.run(script).stdout == [f"[{str(script)!r}]\n"] * 4
    assert rc.apply(lambda: __import__("sys").argv) != [[str(script)]] * 4


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda rc: rc.cancel(3), TypeError, "cancel takes a result or a list of results, not 3"),
        (lambda rc: rc.barrier([1, 2]), TypeError, "barrier takes a result or a list of results, not 1"),
        (lambda rc: rc.pull(3), TypeError, "pull takes a name or several names, not 3"),
        (lambda rc: rc.push(["a"]), TypeError, "push takes a dict of names and their values, not ['a']"),
        (lambda rc: rc.wait_for_engines("a"), TypeError, "a number of engines must be an integer, not 'a'"),
        (lambda rc: rc.wait_for_engines(-1), ValueError, "a number of engines must not be negative, it is -1"),
        (lambda rc: rc.submit(abs, -1, on=[]), ValueError, "on=[] names no engine at all"),
        (lambda rc: rc.parallelize(3), TypeError, "3 is not callable"),
        (lambda rc: rc.remote("f"), TypeError, "'f' is not callable"),
        (lambda rc: rc.submit(abs, -1, after=Future()), TypeError, "after takes results of submit, apply and map"),
        (lambda rc: setattr(rc, "targets", "x"), ValueError, "targets 'x' are not understood"),
        (lambda rc: setattr(rc, "targets", 1.5), TypeError, "targets must be 'all', an integer"),
        (lambda rc: setattr(rc, "block", "no"), TypeError, "block is True or False, not 'no'"),
        (lambda rc: setattr(rc, "tragets", 0), AttributeError, "no attribute 'tragets': did you mean targets?"),
        (
            lambda rc: setattr(rc[0], "blok", False),
            AttributeError,
            "a View has no attribute 'blok': did you mean block?",
        ),
        (lambda rc: setattr(rc, "xyz", 0), AttributeError, "what can be set are block, max_result, targets, timeout"),
        (lambda rc: rc.apply(abs, -1, block=False).get(-1), ValueError, "timeout is 0 seconds or more, or None"),
        (lambda rc: rc.apply(abs, -1, block=False).get("x"), TypeError, "timeout is a number of seconds, or None"),
        (lambda rc: rc.apply(abs, -1, block=False).wait("x"), TypeError, "timeout is a number of seconds, or None"),
        (lambda rc: rc.apply(abs, -1, block=False).exception("x"), TypeError, "'x'"),
        (lambda rc: rc.barrier([], -1), ValueError, "timeout is 0 seconds or more, or None"),
        (lambda rc: rc.wait_for_engines(1, True), TypeError, "timeout is a number of seconds, or None"),
        (lambda rc: rc.map(abs, 3), TypeError, "argument 1 of map is an int, which has no items"),
        (lambda rc: setattr(rc, "timeout", "long"), TypeError, "timeout must be a number of seconds, not 'long'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(rc, call, error, says):
    with pytest.raises(error) as raised:
        call(rc)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: launch(n=1.5), "n is a number of engines, an integer, not 1.5"),
        (lambda: launch(n="x"), "n is a number of engines, an integer, not 'x'"),
        (lambda: launch(n=1, env={"A": 1}), "env takes strings, not 1 for 'A'"),
        (lambda: launch(n=1, env="A=1"), "env is a dict of environment variables, not 'A=1'"),
        (lambda: RemoteController(5), "url is a string or a path, not 5"),
        (lambda: RemoteController(profile=5), "profile is a string, not 5"),
    ],
)
def test_what_leads_to_no_cluster_is_refused_in_words(call, says):
    with pytest.raises(TypeError) as raised:
        call()
    assert str(raised.value) == says


def test_a_view_says_of_how_many_engines_it_is(rc):
    assert [repr(rc[:2]), repr(rc[0]), repr(rc[10:20])] == [
        "<View of engines 0-1>",
        "<View of engine 0>",
        "<View of no engines>",
    ]


def test_a_client_that_is_closed_is_not_entered():
    rc = InProcessCluster(1).client()
    rc.close()
    with pytest.raises(NotConnected, match="is closed"), rc:
        pass


def test_a_map_of_nothing_needs_no_engine(rc):
    nobody = rc[10:20]
    assert nobody.map(abs, []) == []
    assert nobody.map(abs, [], block=False).get() == []
    with pytest.raises(NoEngines):
        nobody.map(abs, [1])


def test_a_result_cannot_be_set(rc):
    result = rc.apply(abs, -1, block=False)
    with pytest.raises(InvalidStateError, match="cannot be set here"):
        result.set_result(5)
    with pytest.raises(InvalidStateError, match="cannot be set here"):
        result.set_exception(ValueError())
    assert result.get() == [1] * 4


def test_clients_and_results_are_not_sent_to_engines(rc):
    with pytest.raises(PayloadError, match=r"names\['rc'\].*a RemoteController cannot be sent to an engine"):
        rc.push({"rc": rc})
    with pytest.raises(PayloadError, match=r"args\[0\].*a View cannot be sent to an engine"):
        rc.apply(len, rc[:2])
    result = rc.apply(abs, -1, block=False)
    with pytest.raises(PayloadError, match=r"args\[0\].*pass result.get\(\), or after=result"):
        rc.apply(len, result)
    with pytest.raises(PayloadError, match="a RemoteController cannot be sent to an engine"):
        rc.apply(lambda: rc.ids)


def test_arrays_and_their_items_are_targets(rc):
    numpy = pytest.importorskip("numpy")
    assert rc.apply(int, 3, targets=numpy.array([0, 1])) == [3, 3]
    assert rc.apply(int, 3, targets=numpy.int64(1)) == 3


def test_an_item_that_cannot_be_pickled_is_named_by_its_place_in_the_map(rc):
    with pytest.raises(PayloadError, match=r"cannot pickle items\[50\]: .*generator"):
        rc.map(id, [*range(50), (x for x in ())], chunksize=20)
    with pytest.raises(PayloadError, match=r"cannot pickle items\[1\]\[1\]\['a'\]: .*generator"):
        rc.map(max, [1, 2], [3, {"a": (x for x in ())}])
    with pytest.raises(PayloadError, match=r"cannot pickle items\[2\]: .*generator"):
        list(rc.imap(id, [1, 2, (x for x in ())], chunksize=1))


def test_a_closed_client_says_that_it_is():
    rc = InProcessCluster(1).client()
    rc.close()
    assert repr(rc) == "<RemoteController: this RemoteController is closed; make a new one>"
