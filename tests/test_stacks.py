"""How stacks of many engines look as one."""

from ipkernel_ext.core.looking import SILENT
from ipkernel_ext.stacks import StackList, stack_of

FRAME = ("/nowhere/train.py", 12, "train", "step()")


def test_equal_ones_are_shown_once():
    told = {"threads": [("", [FRAME])]}
    other = {"threads": [("", [("/nowhere/train.py", 13, "train", "log()")])]}
    shown = repr(StackList([stack_of(0, told), stack_of(1, other), stack_of(2, told)]))
    assert shown.splitlines() == [
        "[0, 2]",
        '  File "/nowhere/train.py", line 12, in train',
        "    step()",
        "[1]",
        '  File "/nowhere/train.py", line 13, in train',
        "    log()",
    ]


def test_cells_with_other_numbers_are_alike():
    told = [{"threads": [("", [(f"<ipython-input-{n}-0abc>", 1, "<module>", "work()")])]} for n in (3, 17)]
    shown = repr(StackList([stack_of(id, parts) for id, parts in enumerate(told)]))
    assert shown.splitlines()[:2] == ["[0-1]", '  File "<ipython-input-3-0abc>", line 1, in <module>']


def test_idle_ones_and_silent_ones():
    silent = [stack_of(id, {SILENT: f"engine {id} has not answered within 3 s"}) for id in (1, 2)]
    shown = repr(StackList([stack_of(0, {"threads": []}), *silent]))
    assert shown == "[0] no user code runs\n[1-2] it has not answered within 3 s"
    assert silent[0].note == "engine 1 has not answered within 3 s"


def test_threads_come_after_the_one_that_runs_tasks():
    stack = stack_of(3, {"threads": [("", [FRAME]), ("worker", [FRAME])]})
    assert [frame.name for frame in stack.frames] == ["train"]
    assert [thread.name for thread in stack.threads] == ["worker"]
    assert "thread worker:\n  File" in repr(stack)


def test_source_that_only_the_client_knows_is_filled_in():
    stack = stack_of(0, {"threads": [("", [(__file__, 1, "<module>", "")])]})
    assert '"""How stacks of many engines look as one."""' in repr(stack)
