"""The engine that computes every shared token prefix once.

All requests become one `Tree`; its line is cut into packs, and each pack is one forward pass over a
single row of tokens without padding. The head and the log-softmax are computed, in float32, only at the
positions that somebody asked about. Keys and values are kept just as long as a later pack or a row still
to be decoded attends to them, and are never copied per row.

Decoding batches whatever rows are waiting, across shot counts: one token of each row forms the line, the
shared ranges of their contexts are attended to once for all rows below them (`DecodePass`), and each row's
own tail sits in one padded block. A row leaves when its stop rule, an end of sequence or its limit says so.

Memory: packs hold `pack_tokens` tokens, rows waiting to be decoded at most `decode_tokens` tokens of keys.
Both are constants of the engine, not of the moment, so that a resumed run makes the same batches and the
same bytes. Only where a device runs out of memory are they halved, and what is not yet answered is planted again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..text.request import Request, StopRule
from .attention import TreePass, window
from .decode import Block, DecodePass, Range, by_layer, keep
from .head import Head
from .memory import out_of_memory
from .port import Answer, Work
from .tree import Pack, Part, Tree, merge_ranges

LEAST_TOKENS = 64  # of a pass that is worth halving no further
LOGITS_AT_ONCE = 512  # positions whose full-vocabulary logits are held together


@dataclass
class _Row:
    """A request on its way: what the tree knows of it and what has been answered so far."""

    request: Request
    sequences: list[int]  # tree sequence of each option (of the prompt alone where there are none)
    logprobs: list[list[float]]
    open: int  # positions not yet computed
    top: int = -1
    index: int = -1  # of the prompt's last token on the line
    keys: list[Range] | None = None  # key ranges of its context, once it is known to be decoded


class SharedEngine:
    """Answers requests with a transformers causal language model whose attention is `spillover`.

    `eos_ids` end a generation. `pack_tokens` bounds a forward pass, `decode_tokens` the keys held for
    rows that wait to be decoded.
    """

    def __init__(
        self, model: Any, eos_ids: frozenset[int], pack_tokens: int = 2048, decode_tokens: int = 16_384
    ) -> None:
        self.model = model
        self.eos_ids = eos_ids
        self.pack_tokens = pack_tokens
        self.decode_tokens = decode_tokens
        self.window = window(model.config)
        self.work = Work()
        self.device = next(model.parameters()).device

    def run(self, requests: Sequence[Request], stop: StopRule) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) for every request, in the order of the line.

        Raises what the device raises where not even `LEAST_TOKENS` fit, and ValueError where a request is longer than a
        sliding window of the model.
        """
        reach = max((request.reach for request in requests), default=0)
        if self.window is not None and reach > self.window:
            raise ValueError(f"a request of {reach:,} tokens is beyond the sliding window of {self.window:,}")
        self.work.tokens_plain += sum(len(r.prompt) + max((len(o) - 1 for o in r.options), default=0) for r in requests)
        left = list(range(len(requests)))
        while left:
            answered = set()
            try:
                for number, answer in self._run([requests[index] for index in left], stop):
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
        began = time.perf_counter()
        tree, rows = _plant(requests)
        asked = _positions(tree, rows)
        blocks: list[Block] = []
        reading = dict.fromkeys(range(len(rows)))  # rows with positions not yet computed
        waiting: list[int] = []  # rows to be decoded
        for pack in tree.packs(self.pack_tokens):
            block, hidden = self._forward(tree, pack, blocks)
            self.work.tokens += pack.stop - pack.start
            blocks.append(block)
            for number in self._read(hidden, pack.start, pack.stop, asked, rows):
                row = rows[number]
                if _wants_decoding(row):  # its context must stay, even while some of its options are still to come
                    row.keys = tree.keys_of(row.index)
                    waiting.append(number)
            for number in [number for number in reading if rows[number].open == 0]:
                del reading[number]
                if rows[number].keys is None:
                    self._clock(began)
                    yield number, _answer(rows[number])
                    began = time.perf_counter()
            held = _contexts(rows, waiting)
            if pack.stop == len(tree) or sum(b - a for a, b in held) >= self.decode_tokens:
                ready = [number for number in waiting if rows[number].open == 0]
                waiting = [number for number in waiting if rows[number].open]
                held = _contexts(rows, waiting)
                needed = [*held, *tree.needed_after(pack.stop)]
                for number, answer in self._decode(rows, ready, blocks, needed, stop):
                    self._clock(began)
                    yield number, answer
                    began = time.perf_counter()
            keep(blocks, [*held, *tree.needed_after(pack.stop)])
        self._clock(began)

    def _clock(self, began: float) -> None:
        self.work.seconds += time.perf_counter() - began

    def _forward(self, tree: Tree, pack: Pack, blocks: list[Block]) -> tuple[Block, Tensor]:
        """One pass over a pack: its keys and values, and the last hidden states h_NC."""
        past = [
            (part_in_block, number)
            for part in pack.past
            for number, part_in_block in _in_blocks(part.q0, part.q1, part.k0, part.k1, blocks)
        ]
        tree_pass = TreePass(pack.parts, past, by_layer(blocks), capture=True)
        at = slice(pack.start, pack.stop)
        hidden = self._hidden(torch.from_numpy(tree.tokens[at]), torch.from_numpy(tree.positions[at]), tree_pass)
        return Block(pack.start, pack.stop, tree_pass.captured), hidden

    def _hidden(self, tokens: Tensor, positions: Tensor, tree_pass: Any) -> Tensor:
        body = self.model.get_decoder()
        output = body(
            input_ids=tokens[None].to(self.device),
            position_ids=positions[None].to(self.device),
            use_cache=False,
            tree=tree_pass,
        )
        return output.last_hidden_state[0]

    @cached_property
    def _logits(self) -> Head:
        """h_PC -> float32 logits_PV: bf16 logits are too coarse to rank labels by."""
        return Head.of(self.model)

    def _read(
        self, hidden: Tensor, start: int, stop: int, asked: dict[int, list[tuple[int, int, int]]], rows: list[_Row]
    ) -> list[int]:
        """Read what was asked within a pack; the rows whose own next token is known now, in line order."""
        here = sorted(index for index in asked if start <= index < stop)
        known = []
        for chunk in (here[i : i + LOGITS_AT_ONCE] for i in range(0, len(here), LOGITS_AT_ONCE)):
            at = torch.tensor([index - start for index in chunk], device=hidden.device)
            logits = self._logits(hidden.index_select(0, at))
            tops = logits.argmax(-1).tolist()
            normal = logits.logsumexp(-1)
            wanted = [(i, token) for i, index in enumerate(chunk) for _, _, token in asked[index] if token >= 0]
            values: list[float] = []
            if wanted:
                i, token = torch.tensor(wanted, device=hidden.device).T
                values = (logits[i, token] - normal[i]).tolist()
            value = iter(values)
            for index, top in zip(chunk, tops, strict=True):
                for number, option, token in asked[index]:
                    row = rows[number]
                    if token >= 0:
                        row.logprobs[option].append(next(value))
                    if index == row.index and row.top < 0:
                        row.top = top
                        known.append(number)
                    row.open -= 1
        return known

    def _decode(
        self, rows: list[_Row], waiting: list[int], blocks: list[Block], needed: Sequence[Range], stop: StopRule
    ) -> Iterator[tuple[int, Answer]]:
        if not waiting:
            return
        waiting = sorted(waiting, key=lambda number: rows[number].index)
        contexts = [rows[number].keys or [] for number in waiting]
        tokens = [rows[number].top for number in waiting]
        limits = [rows[number].request.max_new_tokens for number in waiting]
        generated: list[list[int]] = [[] for _ in waiting]
        decode = DecodePass.of(contexts, blocks, needed, max(limits))
        live = list(range(len(waiting)))
        positions = [len(rows[number].request.prompt) for number in waiting]
        while True:
            staying = []
            for slot, row in enumerate(live):
                over = tokens[slot] in self.eos_ids
                if not over:
                    generated[row].append(tokens[slot])
                    over = stop(generated[row])
                if over or len(generated[row]) >= limits[row]:
                    yield waiting[row], _answer(rows[waiting[row]], tuple(generated[row]), finished=over)
                else:
                    staying.append(slot)
            if not staying:
                return
            if len(staying) < len(live):
                decode.stay(staying)
                live = [live[slot] for slot in staying]
                tokens = [tokens[slot] for slot in staying]
            at = torch.tensor([positions[row] + len(generated[row]) - 1 for row in live])
            hidden = self._hidden(torch.tensor(tokens), at, decode)
            decode.step += 1
            self.work.tokens_generated += len(live)
            tokens = self._logits(hidden).argmax(-1).tolist()


def _plant(requests: Sequence[Request]) -> tuple[Tree, list[_Row]]:
    """The tree of everything that must be forwarded: prompts and options, without each option's last token."""
    sequences: list[tuple[int, ...]] = []
    rows = []
    for request in requests:
        if not request.prompt:
            raise ValueError("a request needs at least one prompt token")
        first = len(sequences)
        sequences += [request.prompt + option[:-1] for option in request.options] or [request.prompt]
        rows.append(_Row(request, list(range(first, len(sequences))), [[] for _ in request.options], 0))
    return Tree.of(sequences), rows


def _positions(tree: Tree, rows: list[_Row]) -> dict[int, list[tuple[int, int, int]]]:
    """Index on the line -> [(row, option, token whose log-probability is asked, or -1 for the top only)]."""
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


def _contexts(rows: list[_Row], waiting: Sequence[int]) -> list[Range]:
    """What rows that wait to be decoded attend to."""
    return merge_ranges(span for number in waiting for span in rows[number].keys or ())


def _wants_decoding(row: _Row) -> bool:
    request = row.request
    return request.max_new_tokens > 0 and all(row.top != option[0] for option in request.options)


def _answer(row: _Row, generated: tuple[int, ...] | None = None, finished: bool = True) -> Answer:
    return Answer(tuple(map(tuple, row.logprobs)), row.top, generated, finished)


def _in_blocks(q0: int, q1: int, k0: int, k1: int, blocks: list[Block]) -> Iterator[tuple[int, Part]]:
    """A past part, cut where its keys lie in different blocks; key indices relative to the block."""
    for number, block in enumerate(blocks):
        lo, hi = max(k0, block.start), min(k1, block.stop)
        if lo < hi:
            yield number, Part(q0, q1, lo - block.start, hi - block.start, False)
