"""Token by token: one batch of prompts under one adapter, greedy or seeded.

Called by the transformers engine, which imports it late: importing it imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from affinage.engines.protocols import GenerationRequest

_SHORTEST_SHARED_PREFIX = 16  # tokens; below, computing it apart costs more than it saves


class Decoding:
    """A batch under way.

    Rows that end leave the batch, so that one long answer does not make the others pay.

    Parameters
    ----------
    model
        A causal model of transformers, with the wanted adapter active whenever `step` is called.
    prompts
        Token ids; padded on the left here.
    complete
        Whether the row with this index, whose tokens are given, needs no further one.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[list[int]],
        requests: Sequence[GenerationRequest],
        *,
        end_tokens: frozenset[int],
        pad_token: int,
        complete: Callable[[int, list[int]], bool] = lambda _row, _tokens: False,
    ) -> None:
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.stopped = [False] * len(prompts)
        self._model = model
        self._mask: torch.Tensor
        self._logits: torch.Tensor
        self._requests = list(requests)
        self._ends = end_tokens
        self._complete = complete
        self._alive = list(range(len(prompts)))
        self._random = [torch.Generator().manual_seed(request.seed) if request.temperature > 0 else None for request in requests]
        with torch.inference_mode():
            self._read(prompts, pad_token)

    @torch.inference_mode()
    def step(self) -> bool:
        """Take one more token for each row that has not ended; whether any row goes on."""
        likeliest = self._logits.argmax(dim=-1).tolist()
        chosen = [self._drawn(self._logits[k], row, likeliest[k]) for k, row in enumerate(self._alive)]
        kept: list[int] = []
        for k, row in enumerate(self._alive):
            self.stopped[row] = chosen[k] in self._ends
            if not self.stopped[row]:
                self.tokens[row].append(chosen[k])
                self.stopped[row] = self._complete(row, self.tokens[row])
            if not self.stopped[row] and len(self.tokens[row]) < self._requests[row].max_tokens:
                kept.append(k)
        if not kept:
            self._alive = []
            return False
        if len(kept) < len(self._alive):
            index = torch.tensor(kept)
            self._cache.batch_select_indices(index)
            self._mask = self._mask[index]
            self._alive = [self._alive[k] for k in kept]
        self._forward(torch.tensor([[chosen[k]] for k in kept]), torch.ones(len(kept), 1, dtype=torch.long))
        return True

    def _read(self, prompts: Sequence[list[int]], pad_token: int) -> None:
        rows, shared = len(prompts), _shared_prefix(prompts)
        self._cache: Any = DynamicCache(config=self._model.config)
        self._mask = torch.ones(1, 0, dtype=torch.long)
        if rows > 1 and shared >= _SHORTEST_SHARED_PREFIX:
            self._forward(torch.tensor([prompts[0][:shared]]), torch.ones(1, shared, dtype=torch.long))
            self._cache.batch_repeat_interleave(rows)
        else:
            shared = 0
        self._mask = self._mask.expand(rows, -1)
        rests = [prompt[shared:] for prompt in prompts]
        longest = max(len(rest) for rest in rests)
        padded = [[pad_token] * (longest - len(rest)) + rest for rest in rests]
        mask = [[0] * (longest - len(rest)) + [1] * len(rest) for rest in rests]
        self._forward(torch.tensor(padded), torch.tensor(mask))

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Run `ids` (rows, new) after what the cache holds; keeps the logits (rows, vocabulary) of the last position."""
        self._mask = torch.cat([self._mask, mask], dim=1)
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self._model(
            input_ids=ids, attention_mask=self._mask, position_ids=positions, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._logits = out.logits[:, -1]

    def _drawn(self, logits: torch.Tensor, row: int, likeliest: int) -> int:
        generator = self._random[row]
        if generator is None:
            return likeliest
        probabilities = torch.softmax(logits.float() / self._requests[row].temperature, dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=generator))


def _shared_prefix(prompts: Sequence[list[int]]) -> int:
    # One token of each prompt stays out: its logits are needed.
    limit = min(len(prompt) for prompt in prompts) - 1
    first = prompts[0]
    for i in range(limit):
        if any(prompt[i] != first[i] for prompt in prompts):
            return i
    return max(limit, 0)
