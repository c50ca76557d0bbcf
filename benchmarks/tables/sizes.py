"""What one kept column costs per insert, update and delete, from 1 to 1,000,000 rows per statement.

The column is a sum over the books of an author. A row trigger by hand keeps the same beside it, as lean as it can be.
"""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import BASE
from benchmarks.ground import Place, authors, check, reset, tidy
from benchmarks.measuring import loop, timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import in_turn, kept, one_sum, prose

SIZES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
SHORT_SIZES = SIZES[:5]
PARENTS = 1_000
LEAST, SHORT_LEAST = 10_000, 2_000  # rows that are written in a round: by several statements where they are small
LARGE = 1_000_000
LARGE_ROUNDS = 3
LIMIT = 30.0  # seconds that a statement may take
EVENTS = ("insert", "update", "delete")
OURS, BY_HAND = "IMMEDIATE", "row trigger"

ROW_TRIGGER = """
CREATE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.author_id = OLD.author_id THEN
        UPDATE bench_books_author SET pages_total = pages_total + NEW.pages - OLD.pages WHERE id = NEW.author_id;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        UPDATE bench_books_author SET pages_total = pages_total - OLD.pages WHERE id = OLD.author_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE bench_books_author SET pages_total = pages_total + NEW.pages WHERE id = NEW.author_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_come_and_go AFTER INSERT OR DELETE ON bench_books_book
    FOR EACH ROW EXECUTE FUNCTION by_hand();
CREATE TRIGGER by_hand_update AFTER UPDATE ON bench_books_book FOR EACH ROW
    WHEN ((OLD.author_id, OLD.pages) IS DISTINCT FROM (NEW.author_id, NEW.pages)) EXECUTE FUNCTION by_hand();
CREATE FUNCTION by_hand_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        NEW.pages_total := OLD.pages_total;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER by_hand_guard BEFORE UPDATE ON bench_books_author
    FOR EACH ROW EXECUTE FUNCTION by_hand_guard();
"""

NOTE = f"""Rows over {PARENTS:,} parents; the update is one of the summed column. Statements of few rows run in a loop
inside the server, which is the worst case: from a client the round trip is added on both sides of the ratio. Statements
of {LARGE:,} rows have {LARGE_ROUNDS} rounds at most."""

Seconds = tuple[float, ...]  # one number per event


def measure(options: Options) -> Result:
    """Measure insert, update and delete in statements of all sizes."""
    places = {
        BASE: options.ground.copy(BASE),
        OURS: kept(options, OURS, one_sum()),
        BY_HAND: options.ground.copy(BY_HAND),
    }
    places[BY_HAND].run(ROW_TRIGGER)
    rows, refused = [], ""
    for size in SHORT_SIZES if options.short else SIZES:
        options.say(f"sizes: {size:,} rows per statement …")
        taking_part = {name: place for name, place in places.items() if name != BY_HAND or not refused}
        found = rounds(taking_part, size, options)
        rows.append(row_of(size, found, refused))
        refused = refused or too_slow(size, found[BY_HAND], statements(size, options))
    sizes = tuple(float(row.title.replace(",", "")) for row in rows)
    plot = Plot(kind="lines", x_label="rows per statement", xs=sizes, log_x=True)
    columns = tuple(f"{name}: {event}" for name in (OURS, BY_HAND) for event in EVENTS)
    title = "One kept column, by the number of rows per statement"
    return Result("sizes", title, columns, rows, prose(NOTE), plot)


def statements(size: int, options: Options) -> int:
    """Return how many statements of a size run in a round."""
    return max(1, (SHORT_LEAST if options.short else LEAST) // size)


def rounds(places: dict[str, Place], size: int, options: Options) -> dict[str, list[Seconds]]:
    """Let the places take turns; a row trigger and a large statement have fewer rounds."""
    number = min(options.rounds, LARGE_ROUNDS) if size >= LARGE else options.rounds
    return in_turn(list(places), lambda name: turn(places[name], size, statements(size, options)), number)


def turn(place: Place, size: int, count: int) -> Seconds:
    """Insert, update and delete the same rows at a place, and compare the values in between."""
    reset(place, authors(PARENTS))
    seconds = []
    for event in EVENTS:
        work = loop(count, statement(event, size))
        seconds.append(timed(partial(place.run, work)))
        if place.name != BASE:
            check(place, one_sum())
        tidy(place, ["bench_books_author", "bench_books_book"])
    return tuple(seconds)


def statement(event: str, size: int) -> str:
    """Return the n-th statement of an event that concerns so many rows."""
    if event == "insert":
        columns = "INSERT INTO bench_books_book (author_id, pages)"
        if size == 1:
            return f"{columns} VALUES (1 + n % {PARENTS}, n % 400)"
        return f"{columns} SELECT 1 + (n * {size} + i) % {PARENTS}, i % 400 FROM generate_series(1, {size}) AS i"
    start = "UPDATE bench_books_book SET pages = pages + 1" if event == "update" else "DELETE FROM bench_books_book"
    rows = "id = n" if size == 1 else f"id > (n - 1) * {size} AND id <= n * {size}"
    return f"{start} WHERE {rows}"


def too_slow(size: int, found: list[Seconds], count: int) -> str:
    """Return why the row trigger does not take part in statements of ten times the size, or nothing."""
    longest = max(max(seconds) for seconds in found) / count
    return f"left out: {size:,} rows took {longest:.1f} s" if longest * 10 > LIMIT else ""


def row_of(size: int, found: dict[str, list[Seconds]], refused: str) -> Row:
    """Return the line of a size: ratios to no trigger, for each event."""
    cells = {}
    for number, event in enumerate(EVENTS):
        base = [seconds[number] for seconds in found[BASE]]
        for name in (OURS, BY_HAND):
            seconds = [one[number] for one in found.get(name, [])]
            cells[f"{name}: {event}"] = Cell.compared(seconds, base) if seconds else Cell.said(refused)
    return Row(f"{size:,}", cells)
