"""Encodes text of users and databases so that no part of it becomes one of the tokenizer's control tokens.

A cell that holds `<|im_end|>` would end the user's turn of the chat, and what follows it could speak as the system.
"""

from __future__ import annotations

import re
from typing import Any

# A mark within a control token's text while the chat template is rendered; Unicode reserves it for internal use.
_SPLIT = "\ufdd0"


class PlainText:
    """Handles text in two acts: `guarded` before the chat template, `token_ids` of what the template has rendered."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        template = str(tokenizer.chat_template)
        # An added token that is no control token, such as a run of spaces, stays one token.
        added = {
            one.content for one in tokenizer.added_tokens_decoder.values() if one.special or one.content in template
        }
        longest_first = sorted(filter(str.strip, added), key=lambda text: (-len(text), text))
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def guarded(self, text: str) -> str:
        """Return the text with a mark within each part that the tokenizer would take for a control token."""
        plain = text.replace(_SPLIT, "")
        return self._control.sub(lambda found: found.group()[0] + _SPLIT + self.guarded(found.group()[1:]), plain)

    def token_ids(self, rendered: str) -> tuple[int, ...]:
        """Return the tokens of a text as if its marks were not there, except for the control tokens that they split."""
        ids: list[int] = []
        for part in rendered.split(_SPLIT):
            ids += self._tokenizer(part, add_special_tokens=False)["input_ids"]
        return tuple(ids)
