"""INSTALL: how far a fill is, in words: one line that changes on a terminal, at most one line a second elsewhere."""

from __future__ import annotations

import time
from typing import Any

from trigger_kit.database.batches import Progress

__all__ = ["ProgressReport", "counted", "duration"]

WIDTH = 20
# Save the cursor and erase what follows it; put it back.
SAVE, ERASE, RESTORE = "\x1b7", "\x1b[K", "\x1b8"


class ProgressReport:
    """Tells how far fills are. ``out`` is one of Django's output wrappers.

    ``is_within_line``: something stands in the line already, as in those of ``migrate``; it stays.
    """

    def __init__(self, out: Any, *, is_within_line: bool = False) -> None:
        self.out = out
        self.is_within_line = is_within_line
        self.has_begun_line = is_within_line
        self.told = time.monotonic()

    def add(self, progress: Progress) -> None:
        """Take note of a batch."""
        pause = 0.1 if self.out.isatty() else 1.0
        if time.monotonic() - self.told < pause:
            return
        self.told = time.monotonic()
        if self.out.isatty():
            line = share(progress) if self.is_within_line else bar(progress)
            self._write(f"{SAVE}{ERASE}{line}{RESTORE}", ending="")
        else:
            self._write_line(so_far(progress))

    def clear(self) -> None:
        """Take away the line of a terminal that changes."""
        if self.out.isatty():
            self._write(ERASE, ending="")

    def finish(self, progress: Progress) -> None:
        """Say what was done in all."""
        self.clear()
        if not self.is_within_line or (not self.out.isatty() and not self.has_begun_line):
            self._write_line(in_all(progress))

    def _write_line(self, text: str) -> None:
        if self.is_within_line:
            if self.has_begun_line:
                self._write("", ending="\n")
                self.has_begun_line = False
            text = f"    {text}"
        self._write(text, ending="\n")

    def _write(self, text: str, *, ending: str) -> None:
        self.out.write(text, ending=ending)
        self.out.flush()


def bar(progress: Progress) -> str:
    """Return a progress bar with what is known."""
    full = int(progress.share * WIDTH)
    return f"{progress.label} [{'#' * full}{'.' * (WIDTH - full)}] {progress.rows:,} rows, {share(progress)}"


def share(progress: Progress) -> str:
    """Return what is known in few words."""
    return f"{progress.share:.0%}, {progress.rate:,.0f} rows/s, {duration(progress.seconds_left)} left "


def so_far(progress: Progress) -> str:
    """Return how far a fill is, as a sentence."""
    return (
        f"{progress.label}: {progress.rows:,} of about {progress.total:,} rows ({progress.share:.0%}), "
        f"{progress.rate:,.0f} rows/s, {duration(progress.seconds_left)} left"
    )


def in_all(progress: Progress) -> str:
    """Return what a fill has done, as a sentence."""
    return (
        f"{progress.label}: {counted(progress.rows)} looked at, {progress.changed:,} changed, "
        f"in {duration(progress.seconds)}"
    )


def counted(rows: int) -> str:
    """Return a number of rows in words."""
    return f"{rows:,} {'row' if rows == 1 else 'rows'}"


def duration(seconds: float) -> str:
    """Return a length of time as people read it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
