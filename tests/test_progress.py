"""Progress: figures are totals, rates do not lie, each terminal gets what it can show."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest

from mmpr_builder.progress import (
    BarProgress,
    LineProgress,
    Progress,
    clock_time,
    laid_out,
    summary,
    told,
)


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _terminal_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever these tests are started from."""
    monkeypatch.setenv("TERM", "xterm")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_was_done_before_does_not_count_as_speed() -> None:
    clock = Clock()
    progress = Progress(clock)
    with progress.stage("sampling", total=1000):
        progress.update(done=900)
        clock.now += 10
        progress.update(done=950)
        snapshot = progress.snapshot()
    assert snapshot["per_second"] == pytest.approx(5.0)
    assert snapshot["seconds_left"] == pytest.approx(10.0)


def test_the_token_rate_is_of_the_last_half_minute() -> None:
    clock = Clock()
    progress = Progress(clock)
    with progress.stage("sampling", total=10):
        for second in range(100):
            progress.update(tokens=100 * second if second < 50 else 5000 + 10 * (second - 50))
            clock.now += 1
        assert progress.snapshot()["tokens_per_second"] == pytest.approx(10, rel=0.1)


def test_a_report_that_comes_twice_changes_nothing() -> None:
    clock = Clock()
    progress = Progress(clock)
    with progress.stage("sampling", total=10):
        progress.update(done=0, tokens=0)
        clock.now += 2
        progress.update(done=4, tokens=80)
        once = progress.snapshot()
        progress.update(done=4, tokens=80)
        assert progress.snapshot() == once


def test_an_inner_stage_hands_the_display_back() -> None:
    progress = Progress()
    with progress.stage("build", total=3):
        progress.update(done=1)
        with progress.stage("loading the engine"):
            assert progress.snapshot()["stage"] == "loading the engine"
        assert progress.snapshot()["done"] == 1
    assert progress.snapshot() == {}


def test_a_watcher_sees_every_update_and_the_last_figures_of_a_stage() -> None:
    progress = Progress()
    seen: list[tuple[int, bool]] = []
    with progress.watched_by(lambda p, ended: seen.append((p.snapshot()["done"], ended))):
        with progress.stage("sampling", total=3):
            progress.update(done=1)
            progress.update(done=3)
        assert seen == [(1, False), (3, False), (3, True)]
    with progress.stage("pairing"):
        progress.update(done=1)
    assert len(seen) == 3


def test_updates_between_stages_are_ignored() -> None:
    progress = Progress()
    progress.update(done=3)
    assert progress.snapshot() == {}


def test_an_unknown_figure_is_an_error() -> None:
    progress = Progress()
    with progress.stage("sampling"), pytest.raises(TypeError):
        progress.update(dnoe=3)


def test_lines_come_at_most_every_ten_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = LineProgress(stream, 10.0, clock)
    with progress.stage("sampling", total=100):
        for second in range(35):
            progress.update(done=second)
            clock.now += 1
    lines = stream.getvalue().splitlines()
    assert lines[0] == "sampling …"
    assert len(lines) == 1 + 3 + 1
    assert lines[2] == "sampling  20 %  ETA 1:20  20/100 seeds  1.0 seeds/s  after 0:20"
    assert lines[-1] == "sampling  34 seeds  35.0 s"


@pytest.mark.parametrize("make", [io.StringIO, lambda: Terminal()])
def test_what_rows_say_reaches_the_log_without_control_characters(
    make: Callable[[], io.StringIO],
) -> None:
    stream = make()
    with Progress.auto(stream=stream) as progress, progress.stage("sampling", total=4):
        progress.update(done=1, detail="hostile\x1b]0;title\x07 \u202e")
        progress.note("not sampled: id\x1b[2J\x9b31m of https://bob:pw@host/x?sig=1")
    shown = stream.getvalue()
    assert "id␛[2J\ufffd31m of https://host/x?…" in shown
    for bad in ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e", "pw@"):
        assert bad not in shown


def test_a_stage_that_fails_is_not_shown_as_done() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    with pytest.raises(ValueError, match="boom"), progress.stage("planning"):
        raise ValueError("boom")
    assert stream.getvalue().splitlines()[-1] == "planning  stopped"


def test_the_bar_shows_stages_notes_and_no_markup_of_others() -> None:
    stream = Terminal()
    with Progress.auto(stream=stream) as progress:
        assert isinstance(progress, BarProgress)
        with progress.stage("sampling", total=4):
            progress.update(done=2, tokens=10, engines=1, detail="{bar} [red]not markup[/red]")
            progress.note("a note with [brackets]")
            with progress.stage("inner"):
                pass
    shown = stream.getvalue()
    assert "a note with [brackets]" in shown
    assert "✓ inner" in shown
    assert "✓ sampling" in shown


AT_WORK = """
import sys
from tqdm import tqdm
from mmpr_builder.progress import BarProgress

now = 0.0
with BarProgress(sys.stderr, lambda: now) as progress, progress.stage("sampling", total=4096):
    progress.update(done=0, tokens=0, units=0, units_total=64, engines=2, detail="{bar} \\x1b[2J")
    for done in range(600, 2100, 100):
        progress.note("so far")  # The bar is drawn again below it.
        now += 10
        progress.update(done=done, tokens=50 * done, decided=80, correct=30, detail="")
    progress.note("so far")
    list(tqdm(range(3)))
"""


def drawn_in_a_terminal(columns: int) -> Iterator[str]:
    """The lines that a terminal of this width gets, control sequences and all."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm", "TQDM_DISABLE": "1"}
    env.pop("COLUMNS", None)
    done = subprocess.Popen(
        [sys.executable, "-c", AT_WORK], stdin=slave, stdout=slave, stderr=slave, env=env
    )
    os.close(slave)
    said = b""
    try:
        while block := os.read(master, 65536):
            said += block
    except OSError:  # The other end is closed.
        pass
    os.close(master)
    assert done.wait() == 0
    yield from (text.rstrip() for text in re.split(r"[\r\n]+", said.decode()))


@pytest.mark.parametrize(
    ("columns", "seen", "not_seen"),
    [
        (60, [r"\| ETA \d:\d\d  [\d,]+/4,096 seeds$"], ["tokens/s"]),
        (80, [r"\| ETA \d:\d\d  [\d,]+/4,096 seeds  [\d,]+ tokens/s"], ["shards"]),
        (
            200,
            [
                r"\| ETA .* seeds/s  2 engines  38 % right  0/64 shards  after \d:\d\d$",
                r"\{bar\} ␛",
            ],
            [],
        ),
    ],
)
def test_bar_share_and_time_left_stay_readable_in_a_terminal(
    columns: int, seen: list[str], not_seen: list[str]
) -> None:
    lines = list(drawn_in_a_terminal(columns))
    drawn = [text for text in lines if text.startswith("sampling") and "ETA" in text]
    assert drawn
    for text in drawn:
        assert re.match(r"sampling +\d+ % \|[█▏▎▍▌▋▊▉ ]{10}\| ETA \d:\d\d", text), text
        assert not [words for words in not_seen if words in text]
    for pattern in seen:
        assert [text for text in lines if re.search(pattern, text)], pattern
    assert max(map(len, lines)) <= columns
    *_, last = filter(None, lines)
    assert last.startswith("✓ sampling  2,000 seeds")
    assert lines[-1] == ""  # Nothing is left of the bar.
    assert not [text for text in lines if "3/3" in text]  # Nor of those of other libraries.


def test_a_detail_is_cut_where_it_does_not_fit_and_counts_give_way_to_it() -> None:
    progress = Progress(Clock())
    with progress.stage("sampling", total=4096):
        progress.update(done=0, engines=0, detail="waiting for 8 GPUs on one node")
        assert laid_out(progress.snapshot(), 60) == (
            "sampling    0 %",
            " 0/4,096 seeds  waiting for 8 …",
        )
        assert laid_out(progress.snapshot(), 100)[1].endswith("on one node  0 engines  after 0:00")


@pytest.mark.parametrize(
    ("env", "every_s"),
    [({}, 10.0), ({"RAY_ADDRESS": "auto"}, 30.0), ({"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, 30.0)],
)
def test_a_log_gets_lines_and_a_jobs_log_fewer(
    env: dict[str, str], every_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    progress = Progress.auto(stream=io.StringIO())
    assert isinstance(progress, LineProgress)
    assert progress.every_s == every_s


def test_quiet_shows_nothing() -> None:
    stream = Terminal()
    with Progress.auto(quiet=True, stream=stream) as progress, progress.stage("sampling"):
        progress.update(done=1)
        progress.note("x")
    assert stream.getvalue() == ""


def test_verbose_gives_lines_on_a_terminal() -> None:
    assert isinstance(Progress.auto(verbose=True, stream=Terminal()), LineProgress)


def test_everything_known_is_told_the_most_important_first() -> None:
    known = {
        "unit": "seeds",
        "done": 1024,
        "total": 4096,
        "per_second": 13.2,
        "tokens_per_second": 5210.4,
        "units": 16,
        "units_total": 64,
        "correct": 30,
        "decided": 80,
        "undecided": 4,
        "pairs": 12,
        "engines": 2,
        "retries": 3,
        "seconds": 78.0,
        "seconds_left": 232.7,
        "detail": "waiting for storage",
    }
    assert list(told(known)) == [
        *("25 %", "ETA 3:53", "1,024/4,096 seeds", "waiting for storage", "5,210 tokens/s"),
        *("13.2 seeds/s", "2 engines", "3 retries", "12 pairs", "38 % right", "4 undecided"),
        *("16/64 shards", "after 1:18"),
    ]


def test_a_stage_without_a_total_shows_how_long_it_has_taken() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = LineProgress(stream, 10.0, clock)
    with progress.stage("loading the engine"):
        clock.now += 12
        progress.update(detail="some-model")
    assert stream.getvalue().splitlines()[1] == "loading the engine  0:12  some-model"


def test_a_summary_says_what_was_done_and_how_long_it_took() -> None:
    snapshot = {"unit": "seeds", "done": 240, "tokens": 90_000, "seconds": 61.24}
    assert summary(snapshot) == "240 seeds  90,000 tokens  61.2 s"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (247, "4:07"), (3729, "1:02:09")]
)
def test_times_are_shown_as_a_clock(seconds: float, shown: str) -> None:
    assert clock_time(seconds) == shown
