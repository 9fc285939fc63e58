"""From messages to token ids, the same way for answering and for training.

Text that people or documents wrote can never become a control token: what looks like `<|im_end|>` in a message reaches
the model as ordinary characters. Called by the transformers engine and by SFT. Receives a tokenizer, imports none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from affinage.engines.protocols import Message

# A private-use character marks the places that were taken out before the template was rendered.
_MARK = "\ue000"


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of `messages` in the tokenizer's chat template, ending where the assistant's answer begins.

    Control tokens stand only where the template puts them.
    """
    control = _control_pattern(tokenizer)
    taken: list[str] = []

    def take(found: re.Match[str]) -> str:
        taken.append(found.group())
        return _MARK

    marked = [{"role": message.role, "content": control.sub(take, message.content)} for message in messages]
    rendered: str = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    return _join(tokenizer, rendered.split(_MARK), taken)


def encode_target(tokenizer: Any, text: str) -> list[int]:
    """Token ids of an answer, with the end token that a trained model must give after it."""
    control = _control_pattern(tokenizer)
    return [*_join(tokenizer, control.split(text), control.findall(text)), int(tokenizer.eos_token_id)]


def _join(tokenizer: Any, parts: Sequence[str], between: Sequence[str]) -> list[int]:
    ids: list[int] = _plain(tokenizer, parts[0])
    for text, part in zip(between, parts[1:], strict=True):
        # One character at a time: no single character is a control token.
        for character in text:
            ids += _plain(tokenizer, character)
        ids += _plain(tokenizer, part)
    return ids


def _plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False)) if text else []


def _control_pattern(tokenizer: Any) -> re.Pattern[str]:
    # Longest first, so that no token hides inside another one; the mark itself is taken out like them.
    tokens = sorted({str(token) for token in tokenizer.added_tokens_decoder.values()} | {_MARK}, key=len, reverse=True)
    return re.compile("|".join(re.escape(token) for token in tokens))
