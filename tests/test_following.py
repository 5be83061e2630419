"""How it looks what other clients run and print."""

from ipkernel_ext.core import messages as m
from ipkernel_ext.following import lines, write


def test_each_line_says_who_and_where(capsys):
    assert lines(m.Followed(1, "ann", "here", 7, "run", [0, 1, 2], "x = 1\nx")) == [
        "here:7 [0-2] >>> x = 1",
        "here:7 [0-2] >>> x",
    ]
    assert lines(m.Followed(1, "ann", "here", 7, "run", [], "work()")) == ["here:7 [any] >>> work()"]
    assert lines(m.Followed(1, "ann", "", 0, "failed", [3], "ValueError: no", 5)) == [
        "… 5 events are not shown …",
        "ann [3] !!! ValueError: no",
    ]
    write(m.Followed(1, "ann", "here", 7, "stdout", [3], "hello\n"))
    assert capsys.readouterr().out == "here:7 [3] hello\n"
