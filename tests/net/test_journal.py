"""What outlives its writer."""

import os

from ipkernel_ext.core.messages import Hint, TaskId
from ipkernel_ext.net.begun import KEPT, SLOTS, BegunFile, prune, read_begun
from ipkernel_ext.net.journal import JournalFile


def test_what_was_written_is_there_for_the_next_life(tmp_path):
    journal = JournalFile(tmp_path / "journal")
    assert journal.epoch == 0
    journal.begin(7)
    a, b = TaskId("client0123456", 1), TaskId("client0123456", 2**40)
    journal.write_task(a, Hint(3, "boot", 1, 2))
    journal.write_task(b, Hint(1, "other", 1))
    journal.write_task(b, Hint(0, "boot", 2))
    journal.write_engine(3, "boot")
    journal.write_engine(4, "gone")
    journal.write_engine(4, None)
    # no close: as after a SIGKILL
    again = JournalFile(tmp_path / "journal")
    assert again.epoch == 7
    assert again.tasks == {a: Hint(3, "boot", 1, 2), b: Hint(0, "boot", 2)}
    assert again.engines == {3: "boot"}
    again.write_task(a, None)
    again.close()
    journal.close()
    last = JournalFile(tmp_path / "journal")
    assert set(last.tasks) == {b}
    last.close()


def test_it_grows(tmp_path):
    journal = JournalFile(tmp_path / "journal")
    ids = [TaskId("c", i) for i in range(10_000)]
    for id in ids:
        journal.write_task(id, Hint(0, "boot", 1))
    for id in ids[::2]:
        journal.write_task(id, None)
    journal.close()
    again = JournalFile(tmp_path / "journal")
    assert set(again.tasks) == set(ids[1::2])
    again.close()


def test_a_file_that_is_no_journal_counts_as_empty(tmp_path):
    (tmp_path / "journal").write_bytes(b"garbage" * 100)
    journal = JournalFile(tmp_path / "journal")
    assert (journal.epoch, journal.tasks) == (0, {})
    journal.close()


def test_what_an_engine_began(tmp_path):
    path = tmp_path / "boot"
    assert read_begun(path) is None
    begun = BegunFile(path)
    assert read_begun(path) == set()
    for i in range(SLOTS + 10):
        begun.write(TaskId("c", i), 1)
    known = read_begun(path)
    assert len(known) == SLOTS
    assert (TaskId("c", SLOTS + 9), 1) in known
    assert (TaskId("c", 0), 1) not in known
    begun.close()


def test_what_engines_leave_is_bounded_and_what_living_ones_write_stays(tmp_path):
    living = BegunFile(tmp_path / "living")
    os.utime(tmp_path / "living", (0, 0))
    for number in range(KEPT + 10):
        BegunFile(tmp_path / f"dead{number}").close()
        os.utime(tmp_path / f"dead{number}", (number + 1, number + 1))
    prune(tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"living", *(f"dead{number}" for number in range(10, KEPT + 10))}
    living.close()


def test_clients_are_there_in_the_next_life(tmp_path):
    path = tmp_path / "journal"
    journal = JournalFile(path)
    journal.write_client("ann", 7)
    journal.write_client("bob", 3)
    journal.write_client("ann", 2**40)
    journal.write_client("bob", None)
    journal.close()
    again = JournalFile(path)
    assert (again.clients, again.engines, again.tasks) == ({"ann": 2**40}, {}, {})
    again.close()
