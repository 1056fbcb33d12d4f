"""lm-evaluation-harness's way from text to tokens: how it cuts context and continuation, shortens texts and rolls.

Its tasks are to be answered on exactly the tokens that it would use itself, so this module repeats what its Hugging
Face model does (`TemplateLM._encode_pair`, `HFLM.tok_encode` and what stands around them, version 0.4.13):

- White space at the context's end moves to the continuation. Both are then encoded as one text, and the context alone a
  second time: the continuation is what the whole has beyond as many tokens as the context has.
- Where the context is empty, the beginning-of-sequence token stands in for it, or the end token if there is none.
- A text gets the tokenizer's beginning-of-sequence token, unless it begins with it already.
- What is too long loses tokens from the left.

Our own rule (`encode`) looks at the spans of the one encoding instead. Nearly always both cut alike. They do not where
a token spans the joint, and `cut_otherwise` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..errors import PromptError
from .encode import Encoder
from .settings import Ids


class Pair(NamedTuple):
    """The token ids of a context and of what is scored after it. Neither is empty."""

    context: Ids
    continuation: Ids

    def shortened(self, longest: int) -> Pair:
        """Without as many tokens from the left as it takes for the model to read at most `longest` of them.

        The last token is only predicted, so `longest` + 1 may stay. Raises PromptError if the continuation alone has
        more than `longest`.
        """
        if len(self.continuation) > longest:
            what = f"a continuation of {len(self.continuation):,} tokens"
            raise PromptError(what, allowed=f"{longest:,}, the longest text that the model reads")
        room = longest + 1 - len(self.continuation)
        return Pair(self.context[-room:], self.continuation)


@dataclass(frozen=True)
class PairEncoder:
    """An encoder that follows the rules of lm-evaluation-harness.

    `add_bos` is its `add_bos_token`: whether texts begin with the beginning-of-sequence token. None: as the tokenizer
    does it. `stand_in` is its `prefix_token_id`: what stands for an empty context. None: as it chooses it.
    """

    encoder: Encoder
    add_bos: bool | None = None
    stand_in: int | None = None

    @property
    def prefix_id(self) -> int:
        """The token that stands in for an empty context, and before a text of which every token is scored."""
        return self.encoder.stand_in if self.stand_in is None else self.stand_in

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of whole texts, each with the beginning-of-sequence token where it belongs. Equal texts are encoded
        once."""
        return [
            ids if not self._prefix or text.startswith(self._begins) else self._prefix + ids
            for text, ids in zip(texts, self.bare(texts), strict=True)
        ]

    def bare(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of texts, and nothing before them."""
        distinct = list(dict.fromkeys(texts))
        ids_of = {text: tuple(one.ids) for text, one in zip(distinct, self.encoder.encodings(distinct), strict=True)}
        return [ids_of[text] for text in texts]

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[Pair]:
        """The pair of each (context, continuation). Raises PromptError for a continuation without a token of its own.

        lm-evaluation-harness fails on a context of white space alone, if the tokenizer puts nothing before it. Here it
        is treated as an empty one.
        """
        moved = [_with_spaces_moved(*one) for one in texts]
        contexts = self.ids([context for context, _ in moved])
        wholes = self.ids([context + continuation for context, continuation in moved])
        alone = self.bare([continuation for context, continuation in moved if not context])
        followed = iter(alone)
        found = []
        for number, (context, _) in enumerate(moved):
            pair = (
                Pair(contexts[number], wholes[number][len(contexts[number]) :])
                if context
                else self._after_nothing(next(followed))
            )
            if not pair.continuation:
                before, after = texts[number]
                raise PromptError(f"the continuation {after!r} has no token of its own behind {before[-40:]!r}")
            found.append(pair)
        return found

    def rolling(self, texts: Sequence[str], longest: int) -> list[list[Pair]]:
        """For each text, the pairs whose continuations are, one after another, all of its tokens.

        The model reads at most `longest` tokens of a pair. Every continuation has as many, but for the last, which gets
        the tokens before it as its context.
        """
        return [list(_windows(ids, self.prefix_id, longest)) for ids in self.ids(texts)]

    def prompts(self, contexts: Sequence[str], longest: int) -> list[Ids]:
        """The ids after which a model writes; of a longer context, the last `longest`. An empty one is stood in for.

        lm-evaluation-harness fails on an empty context, if the tokenizer puts nothing before it.
        """
        return [ids[-longest:] or (self.prefix_id,) for ids in self.ids(contexts)]

    def cut_otherwise(self, texts: Sequence[tuple[str, str]], chat: bool = False) -> list[bool]:
        """Whether our own rule would make other tokens of each (context, continuation), or cut them elsewhere."""
        ours = self.encoder.continuation([one for one, _ in texts], [one for _, one in texts], chat)
        theirs = self.pairs(texts)
        return [(ids[:start], ids[start:]) != pair for (ids, start), pair in zip(ours, theirs, strict=True)]

    @cached_property
    def _prefix(self) -> Ids:
        bos = self.encoder.bos_id
        if self.add_bos is None:
            return self.encoder.prefix
        return (bos,) if self.add_bos and bos is not None else ()

    @cached_property
    def _begins(self) -> str:
        return self.encoder.tokenizer.decode([self.prefix_id], skip_special_tokens=False)

    def _after_nothing(self, ids: Ids) -> Pair:
        """A text that begins with the token that would stand in for its context has its context already."""
        return Pair(ids[:1], ids[1:]) if ids[:1] == (self.prefix_id,) else Pair((self.prefix_id,), ids)


def _with_spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _windows(ids: Ids, before: int, longest: int) -> Iterator[Pair]:
    """`get_rolling_token_windows` and `make_disjoint_window` of lm-evaluation-harness, with a context of one token."""
    if ids:
        yield Pair((before,), ids[:longest])
    for start in range(longest, len(ids), longest):
        end = min(start + longest, len(ids))
        yield Pair(ids[end - longest - 1 : start], ids[start:end])
