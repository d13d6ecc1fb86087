"""A terminal of the kind that Rich's Live draws on: what stands on the screen after all that was written to it."""

import re

SEQUENCE = re.compile(r"\x1b\[(\??)(\d*(?:;\d+)*)([A-Za-z])")


class Screen:
    """Lines grow downwards without end, so that what a real terminal scrolls away stays. Knows the sequences that Rich
    uses and no others, and wraps as a terminal does."""

    def __init__(self, columns: int) -> None:
        self.is_cursor_shown = True
        self._columns = columns
        self._lines = [""]
        self._row = self._column = 0

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._lines]

    def write(self, text: str) -> None:
        place = 0
        while place < len(text):
            if text[place] == "\x1b":
                found = SEQUENCE.match(text, place)
                assert found, text[place : place + 20]
                self._act(*found.groups())
                place = found.end()
            else:
                self._put(text[place])
                place += 1

    def _act(self, private: str, numbers: str, letter: str) -> None:
        match private + letter:
            case "m":
                pass
            case "A":
                self._row -= int(numbers or 1)
                assert self._row >= 0
            case "K":
                assert numbers == "2"
                self._lines[self._row] = ""
            case "?h" | "?l" if numbers == "25":
                self.is_cursor_shown = letter == "h"
            case _:
                raise AssertionError(f"unknown sequence {private}{numbers}{letter}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._down()
            # The line discipline adds the carriage return, also where a file stands in for a terminal.
            self._column = 0
        else:
            if self._column == self._columns:
                self._down()
                self._column = 0
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append("")
