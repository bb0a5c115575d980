"""Ranks that die, hang or are stopped, and strangers at rank 0's door."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from codiemb.callbacks.lines import Line, answer, listen
from codiemb.callbacks.rank_watch import RankWatch, accept, call
from codiemb.stop import last_words
from tests.support.forks import fork, hang, wait_for

FROZEN = 2.0  # seconds


def watch_and_hang(rank: int, door: socket.socket, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "localhost", "LOCAL_RANK": str(rank)}
    if rank == 0:
        watch = accept(door, 3, 20.0, "open", FROZEN)
    else:
        door.close()
        watch = call(port, rank, 20.0, "open", FROZEN)
    last_words.prepare("the same command")
    watch._timeout = 0.3  # to leave; the lines may take longer on a busy machine
    os.write(2, b"watching\n")
    hang()


@pytest.fixture
def world(tmp_path):
    """Three ranks that watch each other and hang in a collective; their files."""
    door = listen()
    arguments = (door, door.getsockname()[1])
    files = [tmp_path / str(rank) for rank in range(3)]
    processes = [fork(watch_and_hang, rank, *arguments, output=files[rank]) for rank in range(3)]
    door.close()
    for file in files:
        wait_for(file, "watching")
    yield processes, files
    for process in processes:
        process.kill()
        process.join()


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_rank_is_named_and_the_others_end(world, frozen):
    processes, files = world
    os.kill(processes[frozen].pid, signal.SIGSTOP)
    for rank in {0, 1, 2} - {frozen}:
        processes[rank].join(20)
        assert processes[rank].exitcode == 1
        said = files[rank].read_text("utf-8")
        assert f"rank {frozen} (host" in said
        assert f"process {processes[frozen].pid}) hangs: no sign of life for 2 s" in said


@pytest.mark.parametrize("falling", [0, 1])
def test_ranks_that_hang_when_another_dies_are_ended_and_name_it(world, falling):
    """And one of them says how to go on: rank 0, or in its place rank 1."""
    processes, files = world
    processes[falling].kill()
    for rank in {0, 1, 2} - {falling}:
        processes[rank].join(20)
        assert processes[rank].exitcode == 1
        said = files[rank].read_text("utf-8")
        assert f"rank {falling} (host" in said
        assert f"process {processes[falling].pid}) died" in said
        assert said.count("continue with: the same command\n") == (rank == 1 - falling)


def test_a_job_that_was_frozen_as_a_whole_goes_on(world):
    processes, files = world
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(2 * FROZEN)
    for process in processes:
        os.kill(process.pid, signal.SIGCONT)
    time.sleep(FROZEN)
    assert [process.exitcode for process in processes] == [None] * 3
    assert [file.read_text("utf-8") for file in files] == ["watching\n"] * 3


def test_ranks_that_leave_one_after_the_other_are_no_deaths(monkeypatch, caplog):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    door = listen()
    port = door.getsockname()[1]
    with ThreadPoolExecutor() as pool:
        rank0 = pool.submit(accept, door, 3, 20.0, "open")
        others = [pool.submit(call, port, rank, 20.0, "open") for rank in (1, 2)]
        for watch in (others[1].result(), rank0.result(), others[0].result()):
            watch.leave()
            time.sleep(0.1)
    assert caplog.text == ""


def test_a_stranger_is_not_let_in_and_a_missing_rank_not_waited_for(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    door = listen()
    port = door.getsockname()[1]
    with ThreadPoolExecutor() as pool:
        rank0 = pool.submit(accept, door, 3, 1.0, "open")
        rank1 = pool.submit(call, port, 1, 1.0, "open")
        stranger = pool.submit(call, port, 2, 1.0, "closed")
        assert rank0.result() is None
        assert stranger.result() is None
        rank1.result().leave()  # it was let in, and told that nobody watches
    assert call(port, 1, 0.1, "open") is None  # the door is closed


def connected() -> tuple[socket.socket, socket.socket]:
    """As socket.socketpair, but TCP."""
    with socket.create_server(("localhost", 0)) as server:
        there = socket.create_connection(server.getsockname())
        return server.accept()[0], there


def heard(line: Line) -> list[str]:
    messages = []
    while not messages:
        messages = line.receive()
    return messages


def test_a_stop_by_the_user_is_told_as_such():
    here, there = map(Line, connected())
    RankWatch([here], "rank 0", 20.0).stop("stopped at once by a second Ctrl-C")
    assert heard(there) == ["stopped rank 0: stopped at once by a second Ctrl-C"]
    there.send("done")
    there.close()


def hear_of_a_stop(rank: int) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    here, there = connected()
    RankWatch([Line(here)], f"rank {rank}", 20.0)
    there.sendall(b"stopped rank 7: a second Ctrl-C\n")
    hang()


@pytest.mark.parametrize(("rank", "code"), [(0, 130), (1, 0)])
def test_a_stop_on_another_rank_ends_this_one_and_is_no_failure(tmp_path, rank, code):
    process = fork(hear_of_a_stop, rank, output=tmp_path / "said")
    process.join(20)
    assert process.exitcode == code
    said = (tmp_path / "said").read_text("utf-8")
    assert "rank 7: a second Ctrl-C" in said
    assert "died" not in said
    assert "failed" not in said


def stranger(port: int, words: bytes = b"") -> socket.socket:
    line = socket.create_connection(("localhost", port))
    line.sendall(words)
    return line


def test_strangers_that_say_nothing_or_too_much_hold_nobody_up(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    door = listen()
    port = door.getsockname()[1]
    silent = [stranger(port, words) for words in (b"", b"op", b"x" * 5000, b"wrong\n", b"\xff\n")]
    since = time.monotonic()
    with ThreadPoolExecutor() as pool:
        rank0 = pool.submit(accept, door, 2, 30.0, "open")
        rank1 = pool.submit(call, port, 1, 30.0, "open")
        watches = [rank0.result(), rank1.result()]
    assert time.monotonic() - since < 15  # of 30 for one silent caller
    for watch in watches:
        watch.leave()
    for line in silent:
        line.close()


def test_the_door_shuts_on_time_whoever_dawdles(monkeypatch):
    door = listen()
    port = door.getsockname()[1]

    def dawdle() -> None:
        line = stranger(port)
        with line:
            for _ in range(100):
                try:
                    line.sendall(b"x")
                except OSError:
                    return
                time.sleep(0.05)

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(dawdle)
        since = time.monotonic()
        assert answer(door, 1, 0.5, "open", "rank 0") == []
        assert time.monotonic() - since < 3
        slow.result()


def test_a_message_has_a_limit():
    here, there = connected()
    line = Line(here)
    there.sendall(b"x" * 3000)
    assert line.receive() is None
    line.close()
    there.close()
