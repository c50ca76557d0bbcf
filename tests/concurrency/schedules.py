"""Run the steps of two or three real sessions in every order that can happen.

A *session* is a tuple of steps, a *schedule* one order of all steps: the number of the session whose turn it is, turn
by turn. Each session has a connection and a thread of its own, so that a step may wait for a lock. After each turn the
stage settles: every step that runs has finished, or is held by a transaction that does nothing until its next turn.
A schedule that gives a turn to a session whose last step is still held cannot happen: it is *unreachable*.

A step is SQL text or a function of the session's connection. The last one commits or rolls back; where the session does
neither, a COMMIT is added. At REPEATABLE READ and SERIALIZABLE taking the snapshot is a step too, the first.

Of two sessions that wait for the same row the server lets either go first: what a schedule of three sessions shows, and
which ones can be reached, may differ a little from run to run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from textwrap import shorten
from typing import Any

import psycopg
from psycopg import IsolationLevel

__all__ = [
    "DEADLOCK",
    "LEVELS",
    "SERIALIZATION",
    "Explored",
    "Run",
    "Schedule",
    "Session",
    "Stage",
    "Step",
    "StuckError",
    "complete",
    "is_serial",
    "schedules",
    "title",
]

Step = str | Callable[[psycopg.Connection], object]
Session = tuple[Step, ...]
Schedule = tuple[int, ...]

LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)
COMMIT, ROLLBACK = "COMMIT", "ROLLBACK"
SNAPSHOT = "SELECT 'the snapshot is taken'"
COMMITTED = "committed"
DEADLOCK = "40P01"
SERIALIZATION = "40001"

# How long a step may run or a session may need to come to rest, in seconds, before the test fails.
LIMIT = 20.0
# How long to wait for a step to finish before asking the server whether it is held; most need far less.
PATIENCE = 0.002
# Deadlocks are looked for at once; without the right to say so, after the server's own second.
DEADLOCK_TIMEOUT = "10ms"


class StuckError(AssertionError):
    """A step neither finished within the limit nor is it held by a session that has its turn yet to come."""


# Schedules ----------------------------------------------------------------------------------------------------------


def complete(session: Session, level: IsolationLevel) -> Session:
    """Return all steps of a session: its snapshot, where there is one, its own, and the COMMIT."""
    first = () if level is IsolationLevel.READ_COMMITTED else (SNAPSHOT,)
    last = () if ends_transaction(session[-1]) else (COMMIT,)
    return (*first, *session, *last)


def ends_transaction(step: Step) -> bool:
    """Whether a step commits or rolls back, as far as its text tells; what a function does is not known."""
    return isinstance(step, str) and step.rstrip("; \n").upper().endswith((COMMIT, ROLLBACK))


def schedules(sessions: Sequence[Session]) -> Iterator[Schedule]:
    """Yield every order of the steps of complete sessions, in lexical order.

    A snapshot is taken right before its session goes on, or right before another session commits: where else it is
    taken makes no difference.
    """
    for schedule in _orders([len(session) for session in sessions]):
        if all(_matters(turn, schedule, sessions) for turn in range(len(schedule))):
            yield schedule


def _orders(left: list[int]) -> Iterator[Schedule]:
    """Yield every order in which each session has as many turns as it has steps left."""
    if not any(left):
        yield ()
    for index, number in enumerate(left):
        if number:
            rest = [*left[:index], number - 1, *left[index + 1 :]]
            for order in _orders(rest):
                yield (index, *order)


def _matters(turn: int, schedule: Schedule, sessions: Sequence[Session]) -> bool:
    """Whether the step of this turn could not as well come later: all but early snapshots."""
    index = schedule[turn]
    if sessions[index][schedule[:turn].count(index)] != SNAPSHOT:
        return True
    for later in range(turn + 1, len(schedule)):
        other = schedule[later]
        step = sessions[other][schedule[:later].count(other)]
        if step != SNAPSHOT:
            return other == index or callable(step) or ends_transaction(step)
        if other < index:
            return False
    return True


def is_serial(schedule: Schedule) -> bool:
    """Whether each session has all its turns in a row."""
    changes = sum(one != two for one, two in pairwise(schedule))
    return changes == len(set(schedule)) - 1


def title(step: Step) -> str:
    """Return a step in one line."""
    text = step if isinstance(step, str) else getattr(step, "__name__", repr(step))
    return shorten(text, 150, placeholder=" …")


@dataclass
class Explored:
    """What the runs so far have shown, so that no run is made twice and no dead end entered twice."""

    complete: int = 0
    unreachable: int = 0
    repeated: int = 0
    dead_ends: set[Schedule] = field(default_factory=set)
    failures: dict[Schedule, set[int]] = field(default_factory=dict)
    known: set[Schedule] = field(default_factory=set)

    def is_new(self, schedule: Schedule) -> bool:
        """Count a schedule that would take a way that was gone before, and return False; True for all others."""
        played = self.without_dropped(schedule)
        if any(played[:turn] in self.dead_ends for turn in range(1, len(played) + 1)):
            self.unreachable += 1
        elif played in self.known:
            self.repeated += 1
        else:
            return True
        return False

    def without_dropped(self, schedule: Schedule) -> Schedule:
        """Return a schedule without the steps of sessions that have failed on this way before."""
        played: Schedule = ()
        failed: set[int] = set()
        for index in schedule:
            if index not in failed:
                played += (index,)
                failed |= self.failures.get(played, set())
        return played

    def learn(self, run: Run) -> None:
        """Take in what a run has shown."""
        for played, failed in run.failures.items():
            self.failures.setdefault(played, set()).update(failed)
        if run.is_complete:
            self.complete += 1
            self.known.add(run.played)
        else:
            self.unreachable += 1
            self.dead_ends.add(run.played)


# One run ------------------------------------------------------------------------------------------------------------


@dataclass
class Player:
    """A session while a schedule runs: where it is, what runs now, and how it has ended."""

    name: str
    connect: Callable[[], psycopg.Connection]
    pool: ThreadPoolExecutor
    steps: Session = ()
    position: int = 0
    running: Future[None] | None = None
    outcome: str = ""

    def __post_init__(self) -> None:
        self.connection = self.connect()

    def renew(self) -> None:
        """Connect anew."""
        self.connection.close()
        self.connection = self.connect()

    @property
    def step(self) -> Step:
        """The step that was begun last."""
        return self.steps[self.position - 1]

    @property
    def pid(self) -> int:
        """The server process of the session."""
        return self.connection.info.backend_pid

    def begin(self, steps: Session, level: IsolationLevel) -> None:
        """Get ready for a run; the connection is idle."""
        self.steps, self.position, self.running, self.outcome = steps, 0, None, ""
        self.connection.isolation_level = level

    def go_on(self) -> None:
        """Start the next step in this session's thread."""
        self.position += 1
        self.running = self.pool.submit(self._perform, self.step)

    def _perform(self, step: Step) -> None:
        if callable(step):
            step(self.connection)
        else:
            self.connection.execute(step.encode())

    def finish(self) -> str:
        """Take note of how the step that has come to its end went, and return it in words; roll back an error."""
        assert self.running is not None
        error, self.running = self.running.exception(), None
        if error is None:
            self.outcome = COMMITTED if self.position == len(self.steps) else ""
            return "done"
        if not isinstance(error, psycopg.Error):
            raise error
        self.connection.rollback()
        self.outcome = error.sqlstate or type(error).__name__
        return f"ERROR {self.outcome} {shorten(str(error).splitlines()[0], 100)}"

    def abandon(self) -> None:
        """Give up whatever runs or is open."""
        if self.running is not None:
            self.connection.cancel_safe(timeout=LIMIT)
            wait([self.running], LIMIT)
        with suppress(psycopg.OperationalError):
            self.connection.rollback()


@dataclass
class Run:
    """What happened when a schedule was run: a readable line per event, and how each session ended.

    ``played`` has the turns that were taken: those of sessions that had failed are left out. ``failures`` has the
    sessions that failed by what had been played up to then.
    """

    schedule: Schedule
    level: IsolationLevel
    sessions: list[str]
    lines: list[str] = field(default_factory=list)
    played: Schedule = ()
    failures: dict[Schedule, set[int]] = field(default_factory=dict)
    outcomes: list[str] = field(default_factory=list)
    is_complete: bool = False

    def __str__(self) -> str:
        order = " ".join(self.sessions[index] for index in self.schedule)
        ends = ", ".join(f"{name} {outcome}" for name, outcome in zip(self.sessions, self.outcomes, strict=False))
        head = f"{order} at {self.level.name.replace('_', ' ')}:"
        return "\n".join([head, *(f"  {line}" for line in self.lines), f"  => {ends or 'unreachable'}"])

    def report_turn(self, player: Player, text: str) -> None:
        """Add the line of a new turn."""
        self.lines.append(f"{len(self.played):2}. {player.name}  {title(player.step)}   -- {text}")

    def report_release(self, player: Player, text: str) -> None:
        """Add the line of a step that was held and has ended now."""
        self.lines.append(f"    {player.name}  goes on: {title(player.step)}   -- {text}")


class Stage:
    """Connections for a number of sessions, and one more that watches them."""

    def __init__(self, url: str, sessions: int = 3) -> None:
        self.url = url
        self.monitor = psycopg.connect(url, autocommit=True)
        self.players = [
            Player(name, self.connect, ThreadPoolExecutor(1, f"session {name}")) for name in "ABCDEFGH"[:sessions]
        ]

    def connect(self) -> psycopg.Connection:
        """Return a new session."""
        connection = psycopg.connect(self.url, prepare_threshold=None)
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'".encode())
        connection.commit()
        return connection

    def renew(self) -> None:
        """Connect the idle players anew: a session keeps the plans of functions that have been dropped."""
        for player in self.players:
            player.renew()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: object) -> None:
        for player in self.players:
            player.abandon()
            player.pool.shutdown()
            player.connection.close()
        self.monitor.close()

    def explore(
        self, sessions: Sequence[Session], level: IsolationLevel, reset: Callable[[], None], explored: Explored
    ) -> Iterator[Run]:
        """Run every schedule from the same start, and yield the complete ones before the next begins."""
        steps = [complete(session, level) for session in sessions]
        for schedule in filter(explored.is_new, schedules(steps)):
            reset()
            run = self.run(steps, schedule, level)
            explored.learn(run)
            if run.is_complete:
                yield run

    def run_alone(self, session: Session, level: IsolationLevel) -> Run:
        """Run one session from beginning to end."""
        steps = complete(session, level)
        return self.run([steps], (0,) * len(steps), level)

    def run(self, sessions: Sequence[Session], schedule: Schedule, level: IsolationLevel) -> Run:
        """Run one schedule of complete sessions; where it cannot go on, roll everything back."""
        players = self.players[: len(sessions)]
        run = Run(schedule, level, [player.name for player in players])
        for player, steps in zip(players, sessions, strict=True):
            player.begin(steps, level)
        try:
            run.is_complete = self._take_turns(run, players)
        except StuckError as error:
            raise StuckError(f"{error}\n{run}") from None
        finally:
            for player in players:
                player.abandon()
        return run

    def _take_turns(self, run: Run, players: list[Player]) -> bool:
        """Play a schedule to its end; return False where it gives a turn to a session that is held."""
        for index in run.schedule:
            if not self._take_turn(run, players, index):
                return False
        if unfinished := [player for player in players if not player.outcome]:
            raise StuckError(self._describe(unfinished))
        run.outcomes = [player.outcome for player in players]
        return True

    def _take_turn(self, run: Run, players: list[Player], index: int) -> bool:
        """Let a session take its next step; return False where its last one is still held."""
        player = players[index]
        if player.outcome:
            return True
        run.played += (index,)
        if player.running is not None:
            return False
        player.go_on()
        self._settle(run, players, player)
        return True

    def _settle(self, run: Run, players: list[Player], current: Player) -> None:
        """Wait until every running step has finished or is held, and write down what happened."""
        released: list[tuple[Player, str]] = []
        said = ""
        deadline = time.monotonic() + LIMIT
        while running := [player for player in players if player.running is not None]:
            wait([player.running for player in running if player.running], PATIENCE, FIRST_COMPLETED)
            ended = [player for player in running if player.running and player.running.done()]
            for player in ended:
                text = self._finish(run, players, player)
                if player is current:
                    said = text
                else:
                    released.append((player, text))
            if not ended and self._are_held(running, players):
                break
            if time.monotonic() > deadline:
                raise StuckError(self._describe(running))
        run.report_turn(current, said or f"waits for {self._holders(current, players)}")
        for player, text in released:
            run.report_release(player, text)

    def _finish(self, run: Run, players: list[Player], player: Player) -> str:
        text = player.finish()
        if player.outcome not in {"", COMMITTED}:
            run.failures.setdefault(run.played, set()).add(players.index(player))
        return text

    def _are_held(self, running: list[Player], players: list[Player]) -> bool:
        """Whether every running step waits, in the end, for sessions of ours that do nothing now.

        A step in a circle of waiting ones is not: the server will end one of them. Two looks must say the same, since
        one look reads one process after the other, and locks may come and go within a statement.
        """
        idle = {player.pid for player in players if player.running is None}
        pids = [player.pid for player in running]
        first = self._blockers(pids)
        return all_wait_for(idle, first) and self._blockers(pids) == first

    def _blockers(self, pids: list[int]) -> dict[int, set[int]]:
        rows = self.monitor.execute("SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::integer[]) AS pid", [pids])
        return {pid: set(blockers) for pid, blockers in rows}

    def _holders(self, player: Player, players: list[Player]) -> str:
        names = {other.pid: other.name for other in players}
        return ", ".join(sorted(names[pid] for pid in self._blockers([player.pid])[player.pid] if pid in names))

    def _describe(self, running: list[Player]) -> str:
        """Return which steps are stuck, and what the server says about each."""
        lines = [f"Not at rest within {LIMIT:g} s:"]
        for player in running:
            query = (
                "SELECT state, wait_event_type, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity WHERE pid = %s"
            )
            row: Any = self.monitor.execute(query, [player.pid]).fetchone()
            lines.append(f"  session {player.name}, step {player.position}: {title(player.step)}   -- {row}")
        return "\n".join(lines)


def all_wait_for(idle: set[int], blockers: dict[int, set[int]]) -> bool:
    """Whether all that wait do so, directly or behind one another, for idle processes only."""
    settled = set(idle)
    waiting = dict(blockers)
    while behind := [pid for pid, before in waiting.items() if before and before <= settled]:
        settled.update(behind)
        for pid in behind:
            del waiting[pid]
    return not waiting
