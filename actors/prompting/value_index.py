"""A BM25 index over the texts of a database's cells, kept on disk while the database stays the same."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

import bm25s
import bm25s.stopwords
import numpy as np
from xxhash import xxh3_128_hexdigest

from floe.actors.databases.contained_databases import find_texts
from floe.actors.databases.database_reader import MAX_CHARS
from floe.actors.databases.reading_settings import ReadingSettings
from floe.actors.databases.schemas import ColumnName
from floe.actors.prompting.odd_values import MAX_FEW_VALUES, OddValues, WordEndings, dates_otherwise, is_odd
from floe.actors.prompting.value_matching import best_named, search_queries
from floe.configs.errors import UserError

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it would write a line for each index that it makes

HITS_PER_QUERY = 10
WORD = r"(?u)\w+"
STOP_WORDS = "english"  # Lucene's list, as in the method: otherwise a value such as `OF` is a hit for most questions
ODD_WORDS = frozenset(bm25s.stopwords.STOPWORDS_EN)
COMPLETE_MARK = "floe-complete"
LEFT_OUT_FILE = "left-out.json"  # a sentence for each table or column that could not be read
ODD_VALUES_FILE = "odd-values.json"
MAX_ODD_VALUES = 20_000  # values of each kind: every question goes through all of them
FORMAT = (
    3,
    ReadingSettings().max_text_rows,
    ReadingSettings().max_texts,
    MAX_CHARS,
    sqlite3.sqlite_version,  # another version may read a table that this one leaves out
)  # an index made in another way is not accepted


Columns = list[ColumnName]


class ValueIndex:
    """The values of one database, searched by the text of a question; the files are read as needed."""

    def __init__(self, folder: Path) -> None:
        left_out = folder / LEFT_OUT_FILE  # an index of an earlier version has none
        self.left_out: list[str] = json.loads(left_out.read_text()) if left_out.exists() else []
        self._odd = OtherValues.read(folder / ODD_VALUES_FILE)
        is_empty = not (folder / "corpus.jsonl").exists()
        self._bm25 = None if is_empty else bm25s.BM25.load(folder, mmap=True, load_corpus=True, show_progress=False)

    def search(self, text: str, max_hits: int) -> list[tuple[ColumnName, str]]:
        """Return columns with a value that the text names, the best first."""
        found = self._found_by_words(text)
        for value, columns in self._odd.named(text):
            found.setdefault(value, columns)
        hits = [(ColumnName(*name), value) for value, columns in found.items() for name in columns]
        return hits[:max_hits]

    def _found_by_words(self, text: str) -> dict[str, Columns]:
        if self._bm25 is None:
            return {}
        queries = search_queries(self._bm25.get_tokens_ids(question_words(text)))
        numbers = sorted(best_numbers(self._bm25, queries))
        entries = [self._bm25.corpus[number] for number in numbers]
        columns = {entry["value"]: entry["columns"] for entry in entries}
        return {value: columns[value] for value in best_named(columns, text)}


class OtherValues:
    """Values that a search by words misses, with their columns: see `odd_values.py`."""

    def __init__(self, odd: Mapping[str, Columns], dates: Mapping[str, Columns], few: Mapping[str, Columns]) -> None:
        """Take the values; `few` are single words of columns that have few."""
        self.kinds = {"odd": odd, "dates": dates, "few": few}
        self._odd, self._endings = OddValues(odd), WordEndings(few)

    @classmethod
    def of(cls, columns_of_value: Mapping[str, Columns]) -> Self:
        num_values = Counter(name for names in columns_of_value.values() for name in names)
        kinds: dict[str, dict[str, Columns]] = {"odd": {}, "dates": {}, "few": {}}
        for value, names in columns_of_value.items():
            few = [name for name in names if num_values[name] <= MAX_FEW_VALUES]
            if is_odd(value, ODD_WORDS):
                kinds["odd"][value] = names
            elif dates_otherwise(value):
                kinds["dates"][value] = names
            elif few and value.strip().isalpha():
                kinds["few"][value] = few
        return cls(**{kind: dict(islice(found.items(), MAX_ODD_VALUES)) for kind, found in kinds.items()})

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))

    def named(self, text: str) -> Iterator[tuple[str, Columns]]:
        """Yield the values that the text names, the surest first."""
        for kind, values in (
            ("odd", self._odd.named(text)),
            ("dates", dates_otherwise(text)),
            ("few", self._endings.alike(text)),
        ):
            yield from ((value, self.kinds[kind][value]) for value in values if value in self.kinds[kind])


def value_index(database: Path, home: Path) -> ValueIndex:
    """Return the index of the database's present state, made below `home` where there is none. Raises UserError."""
    folder = home / f"{database.stem}-{_state(database)}"
    if not (folder / COMPLETE_MARK).exists():
        _make(database, folder)
    return ValueIndex(folder)


def _make(database: Path, folder: Path) -> None:
    """Write under a temporary name and rename, so that a partial index never counts; drop those of earlier states."""
    columns_of_value: dict[str, Columns] = {}
    found = find_texts(database)
    for name, value in found.texts:
        columns_of_value.setdefault(value, []).append(name)
    others = OtherValues.of(columns_of_value)
    corpus = [
        {"value": value, "columns": names}
        for value, names in columns_of_value.items()
        if value not in others.kinds["odd"]
    ]
    values = [entry["value"] for entry in corpus]
    words = bm25s.tokenize(values, token_pattern=WORD, stopwords=STOP_WORDS, show_progress=False)
    beside = folder.with_name(f"{folder.name}.writing-{os.getpid()}")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        if any(words.ids):
            bm25 = bm25s.BM25(corpus=corpus)
            bm25.index(words, show_progress=False)
            bm25.save(beside, corpus=corpus, show_progress=False)
        (beside / LEFT_OUT_FILE).write_text(json.dumps(found.left_out))
        (beside / ODD_VALUES_FILE).write_text(json.dumps(others.kinds))
        (beside / COMPLETE_MARK).write_text(str(database.resolve()))
        _put_in_place(beside, folder)
        for other in folder.parent.glob(f"*/{COMPLETE_MARK}"):
            if other.parent != folder and other.read_text() == str(database.resolve()):
                shutil.rmtree(other.parent, ignore_errors=True)
    except OSError as fault:
        raise UserError(
            f"Can't write the value index {folder} ({fault.strerror}): free some space or set run.home."
        ) from fault


def question_words(text: str) -> list[str]:
    """Return the words to search for, as the library's tokenizer does, which makes progress bars for it."""
    return [word for word in re.findall(WORD, text.lower()) if word not in ODD_WORDS]


def best_numbers(bm25: bm25s.BM25, queries: Sequence[Sequence[int]]) -> set[int]:
    """Return the numbers of the values that are among the best of some query; of equal values the first.

    The queries are parts of one question: what each of its words adds to a value's score is looked up once, and only of
    values that have one of its words. The library's own search does both anew for each query and all values.
    """
    words = sorted({word for query in queries for word in query})
    if not words:
        return set()
    # A plain array in place of the memory map's type, which makes each slice five times as slow.
    added, numbers, starts = (np.asarray(bm25.scores[name]) for name in ("data", "indices", "indptr"))
    spans = [slice(starts[word], starts[word + 1]) for word in words]
    with_a_word = np.unique(np.concatenate([numbers[span] for span in spans]))
    scores = np.zeros((len(words), len(with_a_word)), dtype=added.dtype)
    for row, span in zip(scores, spans, strict=True):
        row[np.searchsorted(with_a_word, numbers[span])] = added[span]
    place = {word: index for index, word in enumerate(words)}
    found: set[int] = set()
    for query in queries:
        total = scores[[place[word] for word in query]].sum(axis=0)
        has_one = np.flatnonzero(total)
        best = has_one[np.argsort(-total[has_one], kind="stable")[:HITS_PER_QUERY]]
        found.update(with_a_word[best].tolist())
    return found


def _put_in_place(beside: Path, folder: Path) -> None:
    """Replace a damaged index; an index that another process has made in the meantime stays."""
    if not (folder / COMPLETE_MARK).exists():
        shutil.rmtree(folder, ignore_errors=True)
    try:
        beside.rename(folder)
    except OSError:
        if not (folder / COMPLETE_MARK).exists():
            raise
        shutil.rmtree(beside)


def _state(database: Path) -> str:
    """Name the file's present state by its place, size and times; hashing gigabytes would delay every start."""
    files = [path for path in (database, database.with_name(f"{database.name}-wal")) if path.exists()]
    states = [(file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns) for file in map(os.stat, files)]
    return xxh3_128_hexdigest(repr((FORMAT, str(database.resolve()), states)).encode())[:16]
