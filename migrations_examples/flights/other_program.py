"""A program that knows nothing of Django or of trigger_kit: four connections that book, move and cancel flights."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg

CARRIERS = ["UA", "B6", "EV", "DL", "AA", "MQ"]


def work(url: str, seed: int) -> int:
    """Run 200 small transactions and return how many rows they touched."""
    dice = random.Random(seed)
    touched = 0
    with psycopg.connect(url) as connection:
        for number in range(200):
            airline, other = dice.sample(CARRIERS, 2)
            with connection.transaction():
                touched += connection.execute(
                    "INSERT INTO flights_flight (airline_id, origin_id, number, scheduled_at, distance, cancelled) "
                    "SELECT %s, 'JFK', n, now(), 100, false FROM generate_series(1, 3) AS n",
                    [airline],
                ).rowcount
            with connection.transaction():
                touched += connection.execute(
                    "UPDATE flights_flight SET airline_id = %s, cancelled = NOT cancelled, distance = distance + 1 "
                    "WHERE id IN (SELECT id FROM flights_flight WHERE airline_id = %s AND id %% 8 = %s LIMIT 3)",
                    [other, airline, seed],
                ).rowcount
            if number % 10 == 0:
                with connection.transaction():
                    touched += connection.execute(
                        "DELETE FROM flights_flight WHERE id IN "
                        "(SELECT id FROM flights_flight WHERE airline_id = %s AND id %% 8 = %s LIMIT 2)",
                        [other, seed],
                    ).rowcount
    return touched


def main() -> None:
    """Run four clients at once and print the number of rows that they touched."""
    url = sys.argv[1]
    with ThreadPoolExecutor(4) as pool:
        print(sum(pool.map(lambda seed: work(url, seed), range(4))))


if __name__ == "__main__":
    main()
