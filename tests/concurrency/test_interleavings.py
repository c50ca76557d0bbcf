"""Every case of ``cases.py`` in every order of its steps, at every isolation level: the contract holds afterwards.

At the levels above READ COMMITTED some cases stand for all of them, unless ``--all`` is given: see ``choice.py``.

The rules of a case are really installed, outside of any test's transaction, and its sessions really commit; this module
takes all of it away again. The transaction that ``django_db`` opens serves to look at the values only: what
``transaction=True`` does after every test takes longer than most tests here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from psycopg import IsolationLevel

from tests.concurrency.cases import CASES, Case
from tests.concurrency.choice import by_default, marked, shown, variants
from tests.concurrency.ground import Ground, Kept, drift
from tests.concurrency.schedules import COMMITTED, DEADLOCK, LEVELS, SERIALIZATION, Explored, Run, is_serial
from trigger_kit import Timing
from trigger_kit.plan.kept_columns import Strategy
from trigger_kit.plan.plan import Event

# By default choice.py chooses.
pytestmark = [pytest.mark.django_db, pytest.mark.every_combination]

REFUSED = "0A000"
SHOWN = 3
VARIANTS = variants(CASES)
BY_DEFAULT = by_default(VARIANTS)


class Tally:
    """The number of schedules by what became of them, as a plugin of pytest that reports it."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()

    def add(self, explored: Explored, refused: int) -> None:
        """Add those of one case at one level; ``refused`` of them have shown no more than that a step is refused."""
        self.numbers["with a refusal"] += refused
        self.numbers.update(run=explored.complete, unreachable=explored.unreachable, repeated=explored.repeated)

    def __str__(self) -> str:
        return ", ".join(f"{number:,} {word}" for word, number in self.numbers.items())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"schedules of {len(CASES)} cases: {self}")


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]) -> Iterator[Tally]:
    """Count the schedules of all cases; the sums are shown at the end, and stand in the report of ``--junitxml``."""
    tally = Tally()
    request.config.pluginmanager.register(tally)
    yield tally
    record_testsuite_property("schedules", str(tally))


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Kept]:
    """Install the rules of a case; what has come with them goes afterwards, whatever state it is in."""
    case, timing = request.param
    with ground.installed(case, timing) as kept:
        yield kept


def variant_id(value: tuple[Case, Timing] | IsolationLevel) -> str:
    if isinstance(value, IsolationLevel):
        return value.name.replace("_", " ").lower()
    case, timing = value
    return case.name if timing is Timing.IMMEDIATE else f"{case.name}, {timing.value}"


@pytest.mark.parametrize(("kept", "level"), marked(VARIANTS), ids=variant_id, indirect=["kept"], scope="module")
def test_the_contract_holds_after_every_schedule(kept: Kept, level: IsolationLevel, tally: Counter[str]) -> None:
    kept.reset()
    assert not drift(kept.rules)
    explored, complaints, ends, refused = Explored(), [], set(), 0
    for run in kept.explore(level, explored):
        ends.update(zip(run.sessions, run.outcomes, strict=True))
        complaints += judge(kept, run)
        refused += REFUSED in run.outcomes
    tally.add(explored, refused)
    if complaints:
        pytest.fail(report(kept.case, explored, complaints), pytrace=False)
    good = {name for name, outcome in ends if outcome in {COMMITTED, REFUSED}}
    assert len(good) == len(kept.case.sessions), f"a session never commits, which makes a poor case: {ends}"


@pytest.mark.parametrize("level", LEVELS, ids=variant_id)
def test_the_default_choice_shows_all_that_there_is(level: IsolationLevel) -> None:
    every, chosen = (
        {kind for what, at in some if at is level for kind in shown(*what)} for some in (VARIANTS, BY_DEFAULT)
    )
    assert chosen == every
    assert {kind.event for kind in chosen} == set(Event)
    assert {kind.timing for kind in chosen} == set(Timing)
    assert {kind.strategy for kind in chosen} == {"tree", *(strategy.value for strategy in Strategy)}


def test_the_default_choice_has_every_case_and_is_a_choice() -> None:
    assert {what for what, _ in BY_DEFAULT} == {
        what for what, _ in VARIANTS if IsolationLevel.READ_COMMITTED in what[0].levels
    }
    assert len(BY_DEFAULT) < len(VARIANTS) / 2


def judge(kept: Kept, run: Run) -> list[str]:
    """Return what is wrong after a run, if anything: how the sessions ended, the values, or running them again."""
    problems = judge_outcomes(kept.case, run) + drift(kept.rules)
    text = str(run)
    for name, session, outcome in zip(run.sessions, kept.case.sessions, run.outcomes, strict=True):
        if outcome in {SERIALIZATION, DEADLOCK}:
            again = kept.ground.stage.run_alone(session, run.level)
            found = judge_outcomes(kept.case, again) + drift(kept.rules)
            if found:
                text += f"\n{name} again, {again}"
                problems += found
    return [f"{text}\n" + "\n".join(f"  !! {problem}" for problem in problems)] if problems else []


def judge_outcomes(case: Case, run: Run) -> list[str]:
    """Return which sessions have ended as they must not."""
    allowed = may_end(case, run.level)
    if not is_serial(run.schedule):
        allowed |= {DEADLOCK} if case.deadlock else set()
        allowed |= {SERIALIZATION} if run.level is not IsolationLevel.READ_COMMITTED else set()
    return [
        f"{name} must not end with {outcome}"
        for name, outcome in zip(run.sessions, run.outcomes, strict=True)
        if outcome not in allowed
    ]


def may_end(case: Case, level: IsolationLevel) -> set[str]:
    """Return how a session may end that nobody disturbs."""
    return {COMMITTED} | case.errors | ({REFUSED} if level in case.refused_at else set())


def report(case: Case, explored: Explored, complaints: list[str]) -> str:
    """Return the first bad schedules of a case, step by step."""
    head = f"{case.name}: {len(complaints)} of {explored.complete} schedules are wrong"
    more = [f"… and {len(complaints) - SHOWN} more"] if len(complaints) > SHOWN else []
    return "\n\n".join([head, *complaints[:SHOWN], *more])
