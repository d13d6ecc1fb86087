"""Texts that a model could write, from a seed: queries of SQLite's grammar, mutated ones, and replies around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

SCRIPT = """
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);
INSERT INTO t VALUES (1,'x',0.5),(2,'y',1.5),(3,NULL,-2.0);
CREATE TABLE u(a INTEGER, d TEXT, e BLOB);
INSERT INTO u VALUES (1,'2020-01-01',x'00ff'),(3,'{"k":[1,2]}',NULL);
CREATE VIEW v AS SELECT t.a, d FROM t JOIN u ON t.a = u.a;
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words VALUES ('red fish'),('blue fish');
"""
COLUMNS = {"t": ("a", "b", "c"), "u": ("a", "d", "e"), "v": ("a", "d"), "words": ("body", "rowid")}
ODD_COLUMNS = ("t.a", "rowid", '"b"', "[a]", "`c`", "nope", '"no column"')
FUNCTIONS = (
    "count", "sum", "avg", "max", "group_concat", "abs", "length", "upper", "substr", "round", "coalesce", "ifnull",
    "json_extract", "date", "julianday", "strftime", "printf", "hex", "zeroblob", "random", "typeof", "instr", "likely",
    "total_changes", "load_extension", "char", "unicode", "replace", "json_group_array", "row_number", "quote", "glob",
)  # fmt: skip
LITERALS = (
    "0", "1", "2.5", "-3", "1e300", "0x1F", "9223372036854775808", "'x'", "''", "'it''s'", "NULL", "x'ff'", "TRUE",
    "'%'", "'$.k[0]'", "'$..x'", "'$.a[?(@.x>1)]'", "'now'", "CURRENT_DATE", "?", ":x", "@v", "$1", "?7", "'\udfff'",
    "#x",
)  # fmt: skip
OPERATORS = (
    "+", "-", "*", "/", "%", "||", "=", "==", "<>", "<", ">=", "AND", "OR", "IS", "IS NOT", "LIKE", "GLOB", "MATCH",
    "REGEXP", "&", "<<", "->", "->>", "COLLATE NOCASE =", "IS NOT DISTINCT FROM", "NOT LIKE",
)  # fmt: skip
# Each of these once made a parser end, hang or fail to catch its error.
ODDITIES = (
    "SELECT * FROM t UNION SELECT a, d, e FROM u ORDER BY 1",
    "VALUES (4),(5) UNION ALL SELECT a FROM t ORDER BY 1",
    "SELECT a FROM t FETCH FIRST 5 ROWS ONLY",
    "SELECT a FROM t LATERAL VIEW EXPLODE(b) e AS z",
    "SELECT * FROM (PIVOT t ON a USING SUM(a)) AS p",
    "SELECT json_extract('[1,2,3]', '$[0,2]') FROM t",
    "SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY c ROWS 1 PRECEDING)",
    "SELECT * FROM words WHERE words MATCH 'fish' ORDER BY rank",
    "SELECT * FROM words WHERE words MATCH '\"'",
    "SELECT a FROM t WHERE a BETWEEN 1 AND 2 AND b BETWEEN 'a' AND 'z'",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 50) SELECT n FROM r",
    "SELECT t.a FROM t " + "JOIN u " * 22,
    "SELECT a FROM t WHERE " + "a BETWEEN 1 AND (" * 28 + "2" + ")" * 28,
    f"SELECT 0x{'1' * 3600}",
    f"SELECT {'(' * 90}1{')' * 90}",
    "SELECT a FROM t WHERE " + " OR ".join(f"a = {n}" for n in range(300)),
    "INSERT INTO t SELECT * FROM u", "CREATE TABLE z AS SELECT 1", "EXPLAIN SELECT a FROM t", "PRAGMA user_version = 3",
    "ATTACH 'x.db' AS x", "SELECT load_extension('x')", "SELECT readfile('/etc/passwd')",
    "SELECT * FROM pragma_database_list",
)  # fmt: skip
WRAPPINGS: tuple[Callable[[str], str], ...] = (
    lambda sql: sql,
    lambda sql: f"```sql\n{sql}\n```",
    lambda sql: f"<think>Join, with care.</think>\n<answer>\n```sql\n{sql};\n```\n</answer>",
    lambda sql: f"The query with all rows is: {sql}; It selects them.",
    lambda sql: f"Use ``` for code.\n~~~sqlite\n{sql}\n~~~\n```\n4 rows with values\n```",
    lambda sql: f"<think>{sql}",
    lambda sql: f"-- with a comment\n{sql};;",
    lambda sql: f"`{sql}`" + " " * 2000 + "```" * 50,
)


def texts(seed: int, num_texts: int) -> Iterator[str]:
    """Yield bare queries: three of five as the grammar makes them, the rest mutated or known oddities."""
    source = random.Random(seed)
    for _ in range(num_texts):
        kind = source.random()
        query = source.choice(ODDITIES) if kind < 0.08 else _query(source, 2)
        yield _mutated(source, query) if kind > 0.72 else query


def completions(seed: int, num_texts: int) -> Iterator[str]:
    """Yield the same in replies."""
    source = random.Random(seed)
    for sql in texts(seed, num_texts):
        yield source.choice(WRAPPINGS)(sql)


def _query(source: random.Random, depth: int) -> str:
    table = source.choice(("t", "t", "u", "v", "words"))
    columns = tuple(f"{table}.{column}" for column in COLUMNS[table])
    num_columns = source.randint(1, 3)
    query = _select(source, depth, table, columns, num_columns)
    if depth > 0 and source.random() < 0.15:
        other = _select(source, 0, table, columns, num_columns)
        query += f" {source.choice(('UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT'))} {other}"
    if source.random() < 0.3:
        query += f" ORDER BY {source.choice(('1', '1 DESC', '1 COLLATE NOCASE', '1 NULLS LAST'))}"
    if source.random() < 0.2:
        query += f" LIMIT {source.choice(('1', '5 OFFSET 1', '-1', '0'))}"
    if depth > 0 and source.random() < 0.1:
        query = f"WITH q AS ({_query(source, 0)}) {query}"
    return query


def _select(source: random.Random, depth: int, table: str, columns: tuple[str, ...], num_columns: int) -> str:
    shown = ", ".join(_expression(source, depth, columns) for _ in range(num_columns))
    query = f"SELECT {source.choice(('', '', 'DISTINCT '))}{shown} FROM {table}"
    if source.random() < 0.3:
        query += source.choice((" JOIN u AS o ON o.a = 1", " LEFT JOIN t AS o ON o.a = 2", ", v AS p"))
    if source.random() < 0.5:
        query += f" WHERE {_expression(source, depth, columns, has_aggregates=False)}"
    if source.random() < 0.2:
        query += f" GROUP BY {columns[0]} HAVING count(*) > 0"
    return query


def _expression(source: random.Random, depth: int, columns: tuple[str, ...], *, has_aggregates: bool = True) -> str:
    """Return an expression, mostly over what the tables have, so that most queries run."""

    def inner() -> str:
        return _expression(source, depth - 1, columns, has_aggregates=False)

    kind = source.random()
    if depth == 0 or kind < 0.45:
        plain = source.random() < 0.95
        return source.choice((*columns, *columns, "1", "'x'", "2.5", "NULL") if plain else (*ODD_COLUMNS, *LITERALS))
    if kind < 0.65:
        return f"({inner()} {source.choice(OPERATORS[:14] if source.random() < 0.9 else OPERATORS)} {inner()})"
    if kind < 0.8:
        if source.random() < 0.9:
            return (
                f"{source.choice(FUNCTIONS[:5] if has_aggregates else ('abs', 'length', 'upper', 'typeof'))}({inner()})"
            )
        return f"{source.choice(FUNCTIONS)}({inner()})"
    if kind < 0.87:
        return f"CASE WHEN {inner()} THEN {inner()} ELSE NULL END"
    if kind < 0.92:
        return f"CAST({inner()} AS {source.choice(('INTEGER', 'TEXT', 'REAL', 'BLOB'))})"
    if kind < 0.96:
        return f"{inner()} IN (1, 2, 'x')"
    return f"(SELECT {inner()} FROM {source.choice(('t AS s', 'u AS s'))} LIMIT 1)"


def _mutated(source: random.Random, sql: str) -> str:
    words = sql.split(" ")
    for _ in range(source.randint(1, 3)):
        place = source.randrange(len(words))
        change = source.randrange(5)
        if change == 0:
            words.pop(place)
        elif change == 1:
            words.insert(place, source.choice(words))
        elif change == 2:
            words[place] = source.choice((*LITERALS, *FUNCTIONS, "(", ")", ",", ";", "SELECT", "--", "/*", "'", "\0"))
        elif change == 3:
            other = source.randrange(len(words))
            words[place], words[other] = words[other], words[place]
        else:
            words = words[:place] or ["SELECT"]
        words = words or ["SELECT"]
    return " ".join(words)
