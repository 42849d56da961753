import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.batch_jobs import (
    ESSENTIAL_EXITED,
    TIMED_OUT,
    ExitRule,
    Outcome,
    Slots,
    Stop,
    glob_matches,
    run_attempt,
    tries_again,
)

TEXT = st.text("abc .:*", max_size=8)


@given(TEXT)
def test_a_text_matches_itself_and_every_start_of_it_with_an_asterisk(text: str) -> None:
    plain = text.rstrip("*")
    assert glob_matches(plain, plain)
    assert all(glob_matches(plain[:end] + "*", plain) for end in range(len(plain) + 1))


@given(TEXT, TEXT)
def test_without_an_asterisk_only_the_whole_text_matches(pattern: str, text: str) -> None:
    pattern = pattern.rstrip("*")
    assert glob_matches(pattern, text) == (pattern == text)


def test_an_asterisk_within_a_pattern_stands_for_itself() -> None:
    assert not glob_matches("a*c", "abc")


def test_a_pattern_that_is_not_given_matches_anything() -> None:
    assert ExitRule("EXIT").matches(Outcome(2))


# The rules of the stack's job definitions.
RULES = [
    ExitRule("RETRY", on_status_reason="Your Spot Task was interrupted*"),
    ExitRule("RETRY", on_reason="CannotPullContainerError*"),
    ExitRule("RETRY", on_exit_code="75"),
    ExitRule("EXIT", on_exit_code="2"),
    ExitRule("EXIT", on_reason="*"),
]


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (Outcome(75), True),
        (Outcome(2), False),
        (Outcome(70), False),
        (Outcome(137), False),
        (Outcome(7), False),  # "75" is not a start
        (Outcome(None, "CannotPullContainerError: not found", "Task failed to start"), True),
        (Outcome(2, status_reason="Your Spot Task was interrupted."), True),  # the first match counts
        (Outcome(75, status_reason=TIMED_OUT, final=True), False),
    ],
)
def test_the_first_rule_that_matches_decides(outcome: Outcome, again: bool) -> None:
    assert tries_again(outcome, 1, 3, RULES) == again


def test_without_a_match_a_job_is_tried_again() -> None:
    assert tries_again(Outcome(1), 1, 2, [ExitRule("EXIT", on_exit_code="2")])


def test_all_conditions_of_a_rule_must_match() -> None:
    rule = ExitRule("EXIT", on_exit_code="1", on_reason="OutOfMemoryError*")
    assert tries_again(Outcome(1), 1, 2, [rule])
    assert not tries_again(Outcome(1, "OutOfMemoryError: killed"), 1, 2, [rule])


def test_actions_may_be_written_in_any_case() -> None:
    assert not tries_again(Outcome(1), 1, 2, [ExitRule("exit")])


def test_the_last_attempt_is_the_last() -> None:
    assert [tries_again(Outcome(75), attempt, 3, RULES) for attempt in (1, 2, 3)] == [True, True, False]


def attempt(
    script: str, *, timeout: float | None = 30, stop: Stop | None = None, **variables: str
) -> tuple[Outcome, list[str]]:
    lines: list[str] = []
    environment = {"PATH": os.environ["PATH"], **variables}
    command = [sys.executable, "-u", "-c", script]
    return run_attempt(command, environment, timeout, stop or Stop(), lines.append), lines


def test_an_attempt_gives_exit_code_and_output_in_order() -> None:
    outcome, lines = attempt(
        "import os, sys\n"
        "print('out'); print('err', file=sys.stderr); os.write(1, b'no newline'); sys.exit(75)"
    )
    assert outcome == Outcome(75, "", ESSENTIAL_EXITED)
    assert lines == ["out", "err", "no newline"]


def test_an_attempt_sees_its_own_variables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DEVELOPER", "x")
    _, lines = attempt("import os; print(sorted(os.environ))", GIVEN="1")
    assert "GIVEN" in lines[0]
    assert "SECRET_OF_THE_DEVELOPER" not in lines[0]


def test_a_signal_shows_as_docker_shows_it() -> None:
    outcome, _ = attempt("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert outcome.exit_code == 128 + 11


def test_an_entry_point_that_is_not_there_fails_to_start() -> None:
    outcome = run_attempt(["/nowhere/builder"], {}, None, Stop(), print)
    assert outcome.exit_code is None
    assert outcome.reason.startswith("CannotStartContainerError")


def test_nothing_is_left_of_an_attempt(tmp_path: Path) -> None:
    _, [folder, pid] = attempt(
        "import os, pathlib, subprocess, sys, tempfile\n"
        "pathlib.Path('left').write_text('x')\n"
        "print(os.getcwd() if tempfile.gettempdir() == os.getcwd() else 'elsewhere')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid)"
    )
    assert folder != "elsewhere"
    assert not Path(folder).exists()
    assert_gone(int(pid))


def test_time_running_out_ends_the_whole_process_group_for_good() -> None:
    outcome, lines = attempt(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid); time.sleep(600)",
        timeout=1,
    )
    assert outcome.final
    assert outcome.status_reason == TIMED_OUT
    assert outcome.exit_code == 128 + 15  # it was asked first
    assert_gone(int(lines[0]))


def test_who_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.batch_jobs.GRACE_SECONDS", 0.2)
    stop = Stop()
    threading.Timer(0.5, stop.ask, ["enough"]).start()
    outcome, _ = attempt(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)", stop=stop
    )
    assert (outcome.exit_code, outcome.status_reason, outcome.final) == (128 + 9, "enough", True)


def test_the_first_reason_to_stop_stays() -> None:
    stop = Stop()
    stop.ask("first")
    stop.ask("second")
    assert stop.reason == "first"


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        # A killed orphan may be a zombie until whoever inherited it looks.
        if Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


class Crowd:
    """Jobs that hold their slots until they are let go."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self.running: list[str] = []
        self.started: list[str] = []
        self.ended: dict[str, bool] = {}
        self._leave: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def job(self, name: str, environment: str = "one", most: float = 16, vcpus: float = 1) -> Stop:
        stop, leave = Stop(), threading.Event()
        self._leave[name] = leave

        def run() -> None:
            with self._slots.take(environment, most, vcpus, stop) as granted:
                if granted:
                    with self._lock:
                        self.running.append(name)
                        self.started.append(name)
                    leave.wait()
                    with self._lock:
                        self.running.remove(name)
            self.ended[name] = granted

        waiting = len(self._slots._queue)
        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)
        until(lambda: name in self.started or len(self._slots._queue) > waiting)
        return stop

    def leave(self, name: str) -> None:
        self._leave[name].set()
        until(lambda: name in self.ended)

    def close(self) -> None:
        for leave in self._leave.values():
            leave.set()
        for thread in self._threads:
            thread.join(10)


def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def crowd():
    made: list[Crowd] = []

    def make(cores: int) -> Crowd:
        made.append(Crowd(Slots(cores)))
        return made[-1]

    yield make
    for crowd in made:
        crowd.close()


def test_jobs_start_in_the_order_of_their_coming_as_cores_come_free(crowd) -> None:
    jobs = crowd(2)
    for name in "abcd":
        jobs.job(name)
    assert jobs.running == ["a", "b"]
    jobs.leave("b")
    until(lambda: jobs.running == ["a", "c"])
    jobs.leave("a")
    until(lambda: jobs.running == ["c", "d"])


def test_a_full_compute_environment_does_not_hold_up_another(crowd) -> None:
    jobs = crowd(8)
    jobs.job("a", "arm", most=1)
    jobs.job("b", "arm", most=1)
    jobs.job("c", "x86", most=1)
    until(lambda: jobs.running == ["a", "c"])
    jobs.leave("a")
    until(lambda: jobs.running == ["c", "b"])


def test_a_big_job_is_not_overtaken_in_its_own_environment(crowd) -> None:
    jobs = crowd(8)
    jobs.job("a", most=4, vcpus=2)
    jobs.job("big", most=4, vcpus=4)
    jobs.job("small", most=4, vcpus=1)
    assert jobs.running == ["a"]
    jobs.leave("a")
    until(lambda: jobs.running == ["big"])


def test_a_waiting_job_can_be_stopped(crowd) -> None:
    jobs = crowd(1)
    jobs.job("a")
    stop = jobs.job("b")
    jobs.job("c")
    stop.ask("cancelled")
    until(lambda: jobs.ended == {"b": False})
    jobs.leave("a")
    until(lambda: jobs.running == ["c"])
