"""The engine that computes every shared token prefix once.

All requests become one `Tree`. Its line is cut into packs of at most `pack_tokens`, and each pack is one forward pass,
without padding. Logits are computed only at the positions that a request asks about. Keys are kept while a later pack
or a waiting row attends to them, and never copied. Rows that wait are decoded together (`DecodePass`), once they hold
about `decode_tokens` keys. Both limits are constants, so a resumed run makes the same batches and writes the same
bytes. Only when a device runs out of memory are they halved; the requests not yet answered then become a new tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..text.request import Request, StopRule
from .attention import TreePass
from .blocks import KeyBlock, Range, keep, within
from .decode import DecodePass
from .head import Head, greedy, hidden_states
from .lengths import limit
from .memory import out_of_memory
from .port import Answer, Ended, Work
from .tree import Pack, Part, Tree, merge_ranges

LEAST_TOKENS = 64  # a pass is not made smaller than this
LOGITS_AT_ONCE = 512  # positions whose full-vocabulary logits are held together


@dataclass
class _Row:
    """A request under way: where the tree has it, and its answers so far."""

    request: Request
    sequences: list[int]  # tree sequence of each option (of the prompt alone where there are none)
    logprobs: list[list[float]]
    greedy: list[bool]  # of each option, so far
    open: int = 0  # positions not yet computed
    top: int = -1
    lead: float = 0.0  # of `top`
    index: int = -1  # of the prompt's last token on the line
    keys: list[Range] | None = None  # key ranges of its context, once it is clear that it will be decoded

    def answer(
        self, generated: tuple[int, ...] | None = None, ended: Ended | None = None, leads: Sequence[float] = ()
    ) -> Answer:
        logprobs, greedy = tuple(map(tuple, self.logprobs)), tuple(self.greedy)
        return Answer(logprobs, self.top, generated, ended, (self.lead, *leads), greedy)


class SharedEngine:
    """Answers requests with a transformers causal language model whose attention is `spillover`.

    `eos_ids` end a generation. `pack_tokens` limits a forward pass; `decode_tokens` limits the keys held for rows that
    wait to be decoded.
    """

    def __init__(
        self, model: Any, eos_ids: frozenset[int], pack_tokens: int = 2048, decode_tokens: int = 16_384
    ) -> None:
        self.model = model
        self.eos_ids = eos_ids
        self.pack_tokens = pack_tokens
        self.decode_tokens = decode_tokens
        self.limit = limit(model.config)
        self.work = Work()

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) for every request, in the order of the line.

        Raises ValueError if a request is longer than texts of this model may be to share prefixes. Raises what the
        device raises if passes of `LEAST_TOKENS` do not fit into its memory.
        """
        reach = max((request.reach for request in requests), default=0)
        if self.limit is not None and reach > self.limit:
            raise ValueError(f"a request of {reach:,} tokens; the model's prefixes can be shared up to {self.limit:,}")
        self.work.tokens_plain += sum(len(r.prompt) + max((len(o) - 1 for o in r.options), default=0) for r in requests)
        left = list(range(len(requests)))
        while left:
            answered = set()
            try:
                for number, answer in self.work.timed(self._run([requests[i] for i in left], stop)):
                    answered.add(number)
                    yield left[number], answer
            except RuntimeError as error:
                if not out_of_memory(error) or self.pack_tokens < 2 * LEAST_TOKENS:
                    raise
                self.pack_tokens //= 2
                self.decode_tokens //= 2
            left = [index for number, index in enumerate(left) if number not in answered]

    @torch.inference_mode()
    def _run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        tree, rows = _plant(requests)
        asked = _positions(tree, rows)
        blocks: list[KeyBlock] = []
        reading = dict.fromkeys(range(len(rows)))  # rows with positions not yet computed
        waiting: list[int] = []  # rows to be decoded
        for pack in tree.packs(self.pack_tokens):
            block, hidden = self._forward(tree, pack, blocks)
            self.work.tokens += pack.stop - pack.start
            blocks.append(block)
            for number in self._read(hidden, pack.start, pack.stop, asked, rows):
                row = rows[number]
                if row.request.generates(row.top):  # its context must stay while options are still to come
                    row.keys = tree.keys_of(row.index)
                    waiting.append(number)
            for number in [number for number in reading if rows[number].open == 0]:
                del reading[number]
                if rows[number].keys is None:
                    yield number, rows[number].answer()
            held = _contexts(rows, waiting)
            if pack.stop == len(tree) or sum(b - a for a, b in held) >= self.decode_tokens:
                ready = [number for number in waiting if rows[number].open == 0]
                waiting = [number for number in waiting if rows[number].open]
                held = _contexts(rows, waiting)
                needed = [*held, *tree.needed_after(pack.stop)]
                yield from self._decode(rows, ready, blocks, needed, stop)
            keep(blocks, [*held, *tree.needed_after(pack.stop)])

    def _forward(self, tree: Tree, pack: Pack, blocks: list[KeyBlock]) -> tuple[KeyBlock, Tensor]:
        """One pass over a pack: its keys and values, and the final hidden states_NC."""
        own = KeyBlock(pack.start, pack.stop)
        tree_pass = TreePass(pack.parts, past_of(pack, blocks), own)
        at = slice(pack.start, pack.stop)
        return own, hidden_states(self.model, tree.tokens[at], tree.positions[at], tree_pass)

    @cached_property
    def _logits(self) -> Head:
        """Hidden states_PC -> float32 logits_PV."""
        return Head.of(self.model)

    def _read(
        self, hidden: Tensor, start: int, stop: int, asked: dict[int, list[tuple[int, int, int]]], rows: list[_Row]
    ) -> list[int]:
        """Note the answers that a pack holds. Returns the rows whose own next token is now known, in line order."""
        here = sorted(index for index in asked if start <= index < stop)
        known = []
        for chunk in (here[i : i + LOGITS_AT_ONCE] for i in range(0, len(here), LOGITS_AT_ONCE)):
            at = torch.tensor([index - start for index in chunk], device=hidden.device)
            logits = self._logits(hidden.index_select(0, at))
            normal = logits.logsumexp(-1)
            wanted = [(i, token) for i, index in enumerate(chunk) for _, _, token in asked[index] if token >= 0]
            i, token = torch.tensor(wanted, dtype=torch.long, device=hidden.device).view(-1, 2).T
            value = iter((logits[i, token] - normal[i]).tolist())
            likeliest = iter((logits[i, token] == logits.amax(-1)[i]).tolist())
            ends = [(i, n) for i, index in enumerate(chunk) for n in _rows_ending(rows, asked[index], index)]
            chosen = greedy(logits[[i for i, _ in ends]], [rows[number].request for _, number in ends])
            for (_, number), top, lead in zip(ends, *chosen, strict=True):
                rows[number].top, rows[number].lead = top, lead
                known.append(number)
            for index in chunk:
                for number, option, token in asked[index]:
                    if token >= 0:
                        rows[number].logprobs[option].append(next(value))
                        rows[number].greedy[option] &= next(likeliest)
                    rows[number].open -= 1
        return known

    def _decode(
        self, rows: list[_Row], waiting: list[int], blocks: list[KeyBlock], needed: Sequence[Range], stop: StopRule
    ) -> Iterator[tuple[int, Answer]]:
        if not waiting:
            return
        waiting = sorted(waiting, key=lambda number: rows[number].index)
        contexts = [rows[number].keys or [] for number in waiting]
        tokens = [rows[number].top for number in waiting]
        limits = [rows[number].request.max_new_tokens for number in waiting]
        ends = [rows[number].request.ends_with(self.eos_ids) for number in waiting]
        generated: list[list[int]] = [[] for _ in waiting]
        leads: list[list[float]] = [[] for _ in waiting]
        decode = DecodePass.of(contexts, blocks, needed, max(limits))
        live = list(range(len(waiting)))
        positions = [len(rows[number].request.prompt) for number in waiting]
        while True:
            staying = []
            for slot, row in enumerate(live):
                ended: Ended | None = None
                if tokens[slot] in ends[row]:
                    ended = "end"
                else:
                    generated[row].append(tokens[slot])
                    if stop(generated[row]):
                        ended = "stop"
                    elif len(generated[row]) >= limits[row]:
                        ended = "limit"
                if ended:
                    yield waiting[row], rows[waiting[row]].answer(tuple(generated[row]), ended, leads[row])
                else:
                    staying.append(slot)
            if not staying:
                return
            if len(staying) < len(live):
                decode.stay(staying)
                live = [live[slot] for slot in staying]
                tokens = [tokens[slot] for slot in staying]
            at = [positions[row] + len(generated[row]) - 1 for row in live]
            hidden = hidden_states(self.model, tokens, at, decode)
            decode.step += 1
            self.work.tokens_generated += len(live)
            tokens, steps = greedy(self._logits(hidden), [rows[waiting[row]].request for row in live])
            for row, lead in zip(live, steps, strict=True):
                leads[row].append(lead)


def _plant(requests: Sequence[Request]) -> tuple[Tree, list[_Row]]:
    """The tree of all tokens to be computed: prompts and options, without each option's last token."""
    sequences: list[tuple[int, ...]] = []
    rows = []
    for request in requests:
        if not request.prompt:
            raise ValueError("a request needs at least one prompt token")
        first = len(sequences)
        sequences += [request.prompt + option[:-1] for option in request.options] or [request.prompt]
        own = list(range(first, len(sequences)))
        rows.append(_Row(request, own, [[] for _ in request.options], [True for _ in request.options]))
    return Tree.of(sequences), rows


def _positions(tree: Tree, rows: list[_Row]) -> dict[int, list[tuple[int, int, int]]]:
    """Index on the line -> [(row, option, token to be scored, or -1 if only the top is asked)]."""
    asked: dict[int, list[tuple[int, int, int]]] = {}
    for number, row in enumerate(rows):
        last = len(row.request.prompt) - 1
        row.index = tree.locate(row.sequences[0], last)
        if not row.request.options:
            asked.setdefault(row.index, []).append((number, -1, -1))
            row.open = 1
        for option, (sequence, ids) in enumerate(zip(row.sequences, row.request.options, strict=False)):
            for offset, token in enumerate(ids):
                asked.setdefault(tree.locate(sequence, last + offset), []).append((number, option, token))
                row.open += 1
    return asked


def _rows_ending(rows: list[_Row], asked: Sequence[tuple[int, int, int]], index: int) -> list[int]:
    """The rows whose prompt ends at an index on the line, of those that ask about it."""
    return [number for number in dict.fromkeys(number for number, _, _ in asked) if rows[number].index == index]


def _contexts(rows: list[_Row], waiting: Sequence[int]) -> list[Range]:
    """Key ranges that the rows waiting to be decoded attend to."""
    return merge_ranges(span for number in waiting for span in rows[number].keys or ())


def past_of(pack: Pack, blocks: Sequence[KeyBlock]) -> list[tuple[Part, KeyBlock]]:
    """The pack's rectangles of earlier keys, cut where these lie in different blocks; key indices within the block."""
    return [
        (replace(part, k0=lo - block.start, k1=hi - block.start), block)
        for part in pack.past
        for block, lo, hi in within([(part.k0, part.k1)], blocks)
    ]
