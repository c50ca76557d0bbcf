"""What a post costs in a forum with 24 rules, the first one of a fresh connection too, beside triggers by hand."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg

from benchmarks.contenders import BASE
from benchmarks.ground import Place
from benchmarks.measuring import Work, interleaved, loop
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.bench import per_one
from benchmarks.tables.forum_places import BY_HAND, RULES, Forum, forum
from benchmarks.tables.keeping import prose
from benchmarks.waits import TOPICS, USERS

COLUMNS = (BASE, RULES, BY_HAND)
SAMPLES, SHORT_SAMPLES = 20, 5  # fresh connections in a round, of each
POSTS, SHORT_POSTS = 1_000, 200
WARM_UP = 6  # posts after which a session has its plans
FIRST = "the first post of a fresh connection"
IN_SERVER, FROM_CLIENT, EDIT = (
    "a post, loop in the server",
    "a post, from a client, asynchronous commits",
    "an edit of a post's body, loop in the server",
)
PLANS, FUNCTIONS = "plans that the first post makes", "functions that it calls"
TITLES = (FIRST, IN_SERVER, FROM_CLIENT, EDIT)

# As Django sends it: a value for each column, those that rules keep as well.
POST = """
INSERT INTO forum_post (topic_id, user_id, body, created, updated, on_moderation, user_name, forum_id)
VALUES ({topic}, {user}, 'Hello', now(), NULL, false, '', NULL)
"""
SENT = POST.format(topic="%s", user="%s").encode()
LOOPED = POST.format(topic=f"1 + n % {TOPICS}", user=f"1 + n % {USERS}")
EDITED = "UPDATE forum_post SET body = 'x' WHERE id = n"
COMMITTING = "IF n % 10 = 0 THEN COMMIT; END IF"  # or every post would wade through what the others have left

NOTE = f"""The forum of migrations_examples, 50,000 posts. A round of the first row is the median of {SAMPLES} fresh
connections, the connecting left out. "{BY_HAND}" is what an expert writes by hand: one UPDATE per touched row, a
trigger per table that hands the change on. After the turns all values are compared with the true ones."""


@dataclass
class Fresh:
    """Sessions that have done nothing yet, one for each sample."""

    sent: int = 0
    links: dict[str, psycopg.Connection] = field(default_factory=dict)

    def work(self) -> Work:
        """Return the first post of a session; what is timed begins when it is connected."""
        return Work(FIRST, self.connect, self.post, after=lambda place: self.links.pop(place.name).close())

    def connect(self, place: Place) -> None:
        """Connect to a place."""
        self.links[place.name] = psycopg.connect(place.url, autocommit=True)

    def post(self, place: Place) -> None:
        """Post, and commit."""
        self.sent += 1
        self.links[place.name].execute(SENT, numbers(self.sent))


def numbers(n: int) -> tuple[int, int]:
    """Return the topic and the user of the n-th post."""
    return 1 + n * 7 % TOPICS, 1 + n % USERS


def measure(options: Options) -> Result:
    """Measure first posts, and posts and edits of sessions that have their plans."""
    options.say("forum: migrations, 50,000 posts …")
    with forum(options.ground.server) as found:
        rows = [row(FIRST, first_posts(found, options))]
        posts = SHORT_POSTS if options.short else POSTS
        for work in (in_server(IN_SERVER, LOOPED, posts), from_client(posts), in_server(EDIT, EDITED, posts)):
            options.say(f"forum: {work.title} …")
            rows.append(row(work.title, in_rounds(found, work, options.rounds, 1), work.per))
        rows += counted(found.places)
        found.check()
    title = "A post in a forum with 24 rules, ratio to no trigger"
    return Result("forum", title, COLUMNS, rows, prose(NOTE), Plot(only=(RULES, BY_HAND), rows=TITLES))


def first_posts(found: Forum, options: Options) -> dict[str, list[float]]:
    """Return the median of each round."""
    options.say("forum: first posts …")
    return in_rounds(found, Fresh().work(), options.rounds, SHORT_SAMPLES if options.short else SAMPLES)


def in_rounds(found: Forum, work: Work, rounds: int, samples: int) -> dict[str, list[float]]:
    """Do some work in rounds of so many turns, and return the medians of the rounds."""
    medians: dict[str, list[float]] = {name: [] for name in found.places}
    for _ in range(rounds):
        found.tidy()
        for name, seconds in interleaved(found.places, work, samples).items():
            medians[name].append(statistics.median(seconds))
    return medians


def in_server(title: str, statement: str, count: int) -> Work:
    """Return a loop of statements inside the server, in short transactions."""
    run = loop(count, f"{statement}; {COMMITTING}")
    return Work(title, loop(WARM_UP, statement), run, count)


def from_client(count: int) -> Work:
    """Return posts one by one, each a transaction and a round trip."""

    def posts(count: int) -> Callable[[Place], None]:
        def send(place: Place) -> None:
            for n in range(count):
                place.link.execute(SENT, numbers(n))

        return send

    return Work(FROM_CLIENT, posts(WARM_UP), posts(count), count)


def row(title: str, seconds: Mapping[str, list[float]], per: int = 1) -> Row:
    """Return the line of some work."""
    base = seconds[BASE]
    cells = {name: Cell.compared(spent, base) for name, spent in seconds.items()}
    return Row(title, cells | {BASE: per_one(base, per)})


# Where the time of a first post goes ---------------------------------------------------------------------------------


def counted(places: Mapping[str, Place]) -> list[Row]:
    """Return how much there is to plan for a first post, and how many functions it calls."""
    plans = {name: Cell.said(f"{plans_of(place):,}") for name, place in places.items()}
    functions = {name: Cell.said(f"{functions_of(place):,}") for name, place in places.items()}
    return [Row(PLANS, plans), Row(FUNCTIONS, functions)]


def plans_of(place: Place) -> int:
    """Return how often the planner is called: it says so in the log, which comes to this client as well."""
    said: list[str | None] = []
    with psycopg.connect(place.url, autocommit=True) as link:
        link.add_notice_handler(lambda notice: said.append(notice.message_primary))
        link.execute("SET client_min_messages = log")
        link.execute("SET log_planner_stats = on")
        link.execute(SENT, numbers(1))
    return said.count("PLANNER STATISTICS")


def functions_of(place: Place) -> int:
    """Return how many functions of PL/pgSQL are called: each is compiled once per session."""
    with psycopg.connect(place.url) as link:
        link.execute("SET track_functions = 'pl'")
        link.execute(SENT, numbers(1))
        (found,) = link.execute("SELECT count(*) FROM pg_stat_xact_user_functions").fetchall()
        link.rollback()
    return int(found[0])
