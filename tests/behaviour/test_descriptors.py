"""What C code, child processes and loggers of real engines write arrives as what is printed does."""

import logging

import pytest


@pytest.fixture(params=["forked", "spawned"])
def engine(request, clusters):
    """One engine with an empty namespace; a process of its own, so it has descriptors."""
    yield clusters[request.param][0]
    clusters[request.param].reset()


def test_all_ways_to_write_keep_their_order(engine):
    result = engine.execute(
        "import ctypes, os, subprocess, sys\n"
        "libc = ctypes.CDLL(None)\n"
        "print('print')\n"
        "os.system('echo child')\n"
        "print('compiling ...', end=' ', flush=True)\n"
        "os.write(1, b'descriptor\\n')\n"
        "print('print')\n"
        "libc.printf(b'C\\n')\n"
        "print('print')\n"
        "subprocess.run(['echo', 'given'], stdout=sys.stdout)\n"
        "print('dunder', file=sys.__stdout__)\n"
        "print('print')\n"
        "libc.printf(b'no end of line')\n"
    )
    expected = [
        *("print", "child", "compiling ... descriptor", "print", "C", "print"),
        *("given", "dunder", "print", "no end of line"),
    ]
    assert result.stdout.split("\n") == expected


def test_both_streams_have_descriptors(engine):
    result = engine.execute(
        "import os, sys\nos.system('echo one >&2; echo two')\nos.write(sys.stderr.fileno(), 'drei ü'.encode())"
    )
    assert (result.stdout, result.stderr) == ("two\n", "one\ndrei ü")
    assert engine.apply(lambda: [__import__("sys").stdout.fileno(), __import__("sys").stderr.fileno()]) == [1, 2]


def test_more_than_a_pipe_holds_is_complete_before_the_result(engine):
    result = engine.execute("import os; os.system('yes | head -c 3000000'); n = os.write(1, b'x' * 1000000)")
    assert result.stdout == "y\n" * 1500000 + "x" * 1000000


def test_code_that_keeps_pythons_lock_may_write_what_a_pipe_holds(engine):
    result = engine.execute("import ctypes; n = ctypes.PyDLL(None).write(1, b'x' * 200_000, 200_000)")
    assert result.stdout == "x" * 200_000


@pytest.mark.fault("engine code leaves processes behind")
def test_a_process_that_is_left_behind_holds_nobody_up(engine):
    """Neither one that keeps the pipe open in silence nor one that never stops writing."""
    try:
        result = engine.execute(
            "import subprocess\n"
            "silent = subprocess.Popen(['sleep', '50'])\n"
            "loud = subprocess.Popen(['yes'])\n"
            "print('done')\n"
        )
        assert "done" in result.stdout
        assert engine.execute("loud.poll(), silent.poll()").outputs == ["(None, None)"]
    finally:
        engine.execute("for child in silent, loud: child.kill(); child.wait()")
    engine.execute("1")
    assert engine.execute("print('quiet again')").stdout == "quiet again\n"


def test_processes_that_user_code_forks_print_too(engine):
    result = engine.execute(
        "import multiprocessing, os, sys\n"
        "def work(number):\n"
        "    for i in range(200): print('worker', number, i)\n"
        "    print('no end of line', end='', file=sys.stderr)\n"
        "context = multiprocessing.get_context('fork')\n"
        "children = [context.Process(target=work, args=(i,)) for i in range(2)]\n"
        "for child in children: child.start()\n"
        "for child in children: child.join()\n"
        "if os.fork() == 0:\n"
        "    print('comes back')\n"
        "else:\n"
        "    os.wait()\n"
    )
    lines = result.stdout.splitlines()
    assert sorted(lines) == sorted([f"worker {n} {i}" for n in (0, 1) for i in range(200)] + ["comes back"])
    assert result.stderr.count("no end of line") == 2, "beside what Python says of forks and threads"


def test_warnings_and_log_records_arrive_once_as_python_prints_them(engine):
    first = engine.execute("import logging, warnings\nlogging.warning('one')\nwarnings.warn('two')")
    again = engine.execute("logging.error('three')\nwarnings.warn('two')\nlogging.getLogger('lib').warning('four')")
    assert first.stderr.splitlines()[0] == "WARNING:root:one"
    assert first.stderr.count("UserWarning: two\n") == 1
    assert again.stderr.splitlines()[0] == "ERROR:root:three"
    assert again.stderr.count("UserWarning: two\n") == 1
    assert again.stderr.splitlines()[-1] == "WARNING:lib:four"
    assert (first.stdout, again.stdout) == ("", "")
    engine.execute("logging.getLogger().handlers.clear()")


def test_the_root_logger_is_the_users(engine):
    def set_up():
        before = list(logging.getLogger().handlers)
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
        logging.getLogger("mine").info("heard")
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)
        return before

    result = engine.apply(set_up, block=False)
    assert result.get() == []
    assert result.stderr == "INFO heard\n"


def test_text_that_is_not_unicode_is_shown_as_far_as_it_is(engine):
    result = engine.execute("import os\nprint('a\\udcffb')\nos.write(1, b'c\\xffd')")
    assert result.stdout == "a?b\nc\ufffdd"
    assert engine.execute("{'\\udcff': 1}").outputs == [r"{'\udcff': 1}"]
