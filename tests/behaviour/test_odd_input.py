"""Input that nobody expects is answered, and nothing else suffers from it."""

import pytest

from ipkernel_ext.errors import PayloadError


@pytest.mark.parametrize("code", [3, None, b"1"])
def test_code_that_is_no_string_is_refused(rc, code):
    with pytest.raises(TypeError, match="code is a string, not"):
        rc.execute(code)


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
