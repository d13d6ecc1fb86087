"""The reward bench's database and questions: five tables of realistic size, groups with duplicates (deterministic)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

DATABASE_ID = "bench"
NUM_CUSTOMERS, NUM_PRODUCTS, NUM_STORES, NUM_ORDERS, NUM_ITEMS = 20_000, 10_000, 10_000, 100_000, 200_000
REGIONS = ("north", "south", "east", "west", "centre")
SEGMENTS = ("consumer", "corporate", "home", "public")
CATEGORIES = tuple(f"category {number}" for number in range(40))

_SCHEMA = """
CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, region TEXT, segment TEXT, since TEXT);
CREATE TABLE product(id INTEGER PRIMARY KEY, name TEXT, category TEXT, price REAL);
CREATE TABLE store(id INTEGER PRIMARY KEY, city TEXT, region TEXT, area INTEGER);
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer, store_id INTEGER, day TEXT);
CREATE TABLE item(id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders, product_id INTEGER, amount INTEGER);
CREATE INDEX orders_by_customer ON orders(customer_id);
CREATE INDEX item_by_order ON item(order_id);
"""


@dataclass(frozen=True, slots=True)
class BenchQuestion:
    """A gold and a group of candidates as sampled, half of them distinct."""

    gold: str
    candidates: tuple[str, ...]

    @property
    def distinct(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.candidates))


def write_bench_database(databases_dir: Path) -> Path:
    path = databases_dir / DATABASE_ID / f"{DATABASE_ID}.sqlite"
    path.parent.mkdir(parents=True)
    rng = Random(0)
    connection = sqlite3.connect(path)
    connection.executescript(_SCHEMA)
    _insert(connection, "customer", (_customer(rng, i) for i in range(1, NUM_CUSTOMERS + 1)), 5)
    _insert(connection, "product", (_product(rng, i) for i in range(1, NUM_PRODUCTS + 1)), 4)
    _insert(connection, "store", (_store(rng, i) for i in range(1, NUM_STORES + 1)), 4)
    _insert(connection, "orders", (_order(rng, i) for i in range(1, NUM_ORDERS + 1)), 4)
    _insert(connection, "item", (_item(rng, i) for i in range(1, NUM_ITEMS + 1)), 4)
    connection.commit()
    connection.execute("ANALYZE")
    connection.close()
    return path


def bench_questions(num_questions: int, group_size: int) -> list[BenchQuestion]:
    """Return groups with `group_size // 2` distinct candidates; the gold is the most frequent one.

    An eighth has a column that does not exist, a ninth a syntax error; the rest are other queries that run.
    """
    rng = Random(1)
    used: set[str] = set()
    return [_question(rng, group_size, used) for _ in range(num_questions)]


def _question(rng: Random, group_size: int, used: set[str]) -> BenchQuestion:
    """Return one question. None of its queries occurs in another one, so that no known verdict answers for it."""
    gold = _unused_query(rng, used)
    distinct = {gold: 0.45 * group_size}
    while len(distinct) < max(1, group_size // 2):
        kind = rng.random()
        if kind < 0.13:
            text = gold.replace("SELECT ", f"SELECT missing_{len(distinct)}, ", 1)
        elif kind < 0.24:
            text = f"{gold} ORDER GROUP {len(distinct)}"
        else:
            text = _unused_query(rng, used)
        distinct.setdefault(text, 1.0)
    texts = list(distinct)
    repeats = rng.choices(texts, weights=list(distinct.values()), k=group_size - len(texts))
    group = texts + repeats
    rng.shuffle(group)
    return BenchQuestion(gold, tuple(group))


def _unused_query(rng: Random, used: set[str]) -> str:
    text = _query(rng)
    while text in used:
        text = _query(rng)
    used.add(text)
    return text


def _query(rng: Random) -> str:
    low = rng.randint(1, NUM_ORDERS - 2000)
    segment = rng.choice(SEGMENTS)
    customer, area = rng.randint(1, NUM_CUSTOMERS), rng.randint(500, 900)
    return rng.choice(
        (
            f"SELECT name, segment FROM customer WHERE id BETWEEN {customer} AND {customer + 40}",
            f"SELECT count(*) FROM orders WHERE customer_id = {customer}",
            f"SELECT c.name, o.day FROM customer c JOIN orders o ON o.customer_id = c.id WHERE c.id = {customer}",
            f"SELECT store_id, count(*) FROM orders WHERE id BETWEEN {low} AND {low + 1500} GROUP BY store_id",
            f"SELECT day FROM orders WHERE id BETWEEN {low} AND {low + 900} ORDER BY day DESC LIMIT 10",
            f"SELECT avg(price) FROM product WHERE category = '{rng.choice(CATEGORIES)}' AND id > {customer // 4}",
            f"SELECT category, max(price) FROM product WHERE price > {rng.randint(5000, 49_000) / 100} GROUP BY 1",
            f"SELECT region, count(*) FROM customer WHERE segment = '{segment}' AND id > {customer // 2} GROUP BY 1",
            f"SELECT sum(i.amount) FROM item i JOIN orders o ON i.order_id = o.id WHERE o.customer_id = {customer}",
            f"SELECT DISTINCT city FROM store WHERE region = '{rng.choice(REGIONS)}' AND area > {area}",
            f"SELECT name FROM customer WHERE name LIKE '%{rng.randint(100, 999)}%'",
            f"SELECT p.name FROM product p WHERE p.id IN (SELECT product_id FROM item WHERE order_id = {low})",
        )
    )


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]], width: int) -> None:
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * width)})", rows)


def _day(rng: Random) -> str:
    return f"20{rng.randint(18, 25)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def _customer(rng: Random, number: int) -> tuple[int, str, str, str, str]:
    return number, f"customer {rng.randint(1, 99_999)}", rng.choice(REGIONS), rng.choice(SEGMENTS), _day(rng)


def _product(rng: Random, number: int) -> tuple[int, str, str, float]:
    return number, f"product {number}", rng.choice(CATEGORIES), rng.randint(100, 50_000) / 100


def _store(rng: Random, number: int) -> tuple[int, str, str, int]:
    return number, f"city {rng.randint(1, 900)}", rng.choice(REGIONS), rng.randint(50, 1000)


def _order(rng: Random, number: int) -> tuple[int, int, int, str]:
    return number, rng.randint(1, NUM_CUSTOMERS), rng.randint(1, NUM_STORES), _day(rng)


def _item(rng: Random, number: int) -> tuple[int, int, int, int]:
    return number, rng.randint(1, NUM_ORDERS), rng.randint(1, NUM_PRODUCTS), rng.randint(1, 9)
