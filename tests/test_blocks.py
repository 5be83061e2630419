"""What the output of many engines becomes: blocks, labels, and how much of a flood is shown."""

from ipkernel_ext import blocks
from ipkernel_ext.blocks import Block, Budget, Lines, Rich, Text, fold
from ipkernel_ext.core.messages import Display, Stream


def stream(engine, text, name="stdout"):
    return Stream(None, engine, 0, name, text)


def value(engine, text, execution=1):
    return Display(None, engine, 0, {"text/plain": text}, {}, execution)


def shown(found):
    """Blocks as (engines, what)."""
    return [
        (block.engines, block.piece.text if isinstance(block.piece, Text) else block.piece.bundle["text/plain"])
        for block in found
    ]


def test_a_value_names_its_cell_where_engines_agree_in_it():
    assert blocks.value_label([2], [5]) == "Out[2:5]:"
    assert blocks.value_label([0, 1], [5, 5]) == "Out[0-1:5]:"
    assert blocks.value_label([0, 1], [5, 6]) == "Out[0-1]:"
    assert blocks.labelled_value("Out[2:5]:", "4") == "Out[2:5]: 4"
    assert blocks.labelled_value("Out[2:5]:", "a\nb") == "Out[2:5]:\na\nb"


def test_the_status_line():
    assert blocks.status_line(3, 4, [2], 14.2) == "3 of 4 done, [2] running 14 s"
    assert blocks.status_line(3, 4, [], 2.0) == "3 of 4 done"


def test_adjacent_text_is_one_piece():
    log = [stream(0, "a"), stream(0, "b"), stream(0, "c", "stderr"), value(0, "4", 7), stream(0, "d")]
    assert blocks.pieces_of(log) == [
        (Text("stdout", "ab"), None),
        (Text("stderr", "c"), None),
        (Rich({"text/plain": "4"}, {}, True), 7),
        (Text("stdout", "d"), None),
    ]


def test_what_is_alike_is_one_block_and_what_differs_is_another():
    logs = {engine: [stream(engine, "same\n")] for engine in range(128)} | {128: [stream(128, "other\n")]}
    assert shown(fold(logs)) == [(list(range(128)), "same\n"), ([128], "other\n")]


def test_pieces_in_other_portions_are_alike():
    assert shown(fold({0: [stream(0, "ab")], 1: [stream(1, "a"), stream(1, "b")]})) == [([0, 1], "ab")]
    assert len(fold({0: [stream(0, "a")], 1: [stream(1, "a", "stderr")]})) == 2


def test_engines_that_began_alike_part_where_they_differ():
    logs = {engine: [stream(engine, "hello\n"), value(engine, str(engine % 2))] for engine in range(4)}
    assert shown(fold(logs)) == [([0, 1, 2, 3], "hello\n"), ([0, 2], "0"), ([1, 3], "1")]


def test_each_engines_order_is_kept():
    logs = {
        0: [stream(0, "x"), value(0, "v"), stream(0, "y")],
        1: [stream(1, "z"), value(1, "v"), stream(1, "y")],
        2: [stream(2, "x"), value(2, "v"), stream(2, "w")],
    }
    expected = [([0, 2], "x"), ([0, 2], "v"), ([0], "y"), ([2], "w"), ([1], "z"), ([1], "v"), ([1], "y")]
    assert shown(fold(logs)) == expected


def test_values_of_different_cells_are_alike():
    (block,) = fold({0: [value(0, "4", 2)], 1: [value(1, "4", 3)]})
    assert block == Block([0, 1], Rich({"text/plain": "4"}, {}, True), [2, 3])


def test_many_pieces_are_no_matter():
    log = [stream(0, str(i), ("stdout", "stderr")[i % 2]) for i in range(5000)]
    assert len(fold({0: log, 1: log})) == 5000


def test_engine_by_engine():
    logs = {0: [stream(0, "a")], 1: [stream(1, "a"), value(1, "2")]}
    assert shown(blocks.engine_by_engine(logs)) == [([0], "a"), ([1], "a"), ([1], "2")]


# ---------------------------------------------------------------- lines


def test_every_line_begins_with_its_label():
    lines, budget = Lines("[2]"), Budget()
    assert lines.add("one\ntwo\nthr", budget, 0) == "[2] one\n[2] two\n"
    assert lines.add("ee", budget, 0) == ""
    assert lines.add("\n\n", budget, 0) == "[2] three\n[2] \n"
    assert lines.add("end", budget, 0) == ""
    assert lines.finish(budget, 0) == "[2] end\n"


def test_of_a_progress_bar_its_last_state_is_shown():
    lines, budget = Lines("[0]"), Budget()
    assert lines.add("\r 10%\r 50%", budget, 0) == ""
    assert lines.add("\r100%\nwindows\r\n", budget, 0) == "[0] 100%\n[0] windows\n"


def test_a_line_without_end_is_shown_in_portions():
    lines, budget = Lines("[0]"), Budget()
    shown = "".join(lines.add("x" * 1000, budget, 0) for _ in range(200))
    assert sum(line.count("x") for line in shown.splitlines()) > 100_000
    assert lines._size <= blocks.OPEN


def test_a_flood_is_shown_in_part_with_a_count_and_its_end():
    lines, budget = Lines("[1]"), Budget(burst=3, rate=2)
    assert lines.add("a\nb\nc\nd\n", budget, 0) == "[1] a\n[1] b\n[1] c\n"
    assert lines.add("".join(f"{i}\n" for i in range(1000)), budget, 0.5) == ""
    assert lines.add("e\nf\n", budget, 1.5) == (
        "[1] … 1,001 lines are not shown here, the result has them …\n[1] e\n[1] f\n"
    )
    lines.add("".join(f"{i}\n" for i in range(5000)), budget, 1.5)
    end = lines.finish(budget, 1.5).splitlines()
    assert end[0] == "[1] … 4,989 lines are not shown here, the result has them …"
    assert end[1:] == [f"[1] {i}" for i in range(4990, 5000)]


def test_one_huge_line_counts_as_many():
    lines, budget = Lines("[1]"), Budget(burst=100, rate=1)
    lines.add("x" * 10_000_000 + "\n", budget, 0)
    assert lines.add("more\n", budget, 0) == ""


def test_a_budget_recovers_with_time_and_opens_again_late():
    budget = Budget(burst=10, rate=4)
    assert budget.spend(8, 0) == 8
    assert budget.spend(8, 0) == 2
    assert budget.spend(1, 0.5) == 0, "closed until there is a second's worth"
    assert budget.spend(3, 1) == 3
    assert budget.spend(100, 100) == 10
