"""What a task of lm-evaluation-harness asks about one document, as requests of token ids, and how answers are read.

It asks in three ways: how probable is a continuation of a context (`loglikelihood`, several for a choice), how probable
is a whole text (`loglikelihood_rolling`), and what does the model write until certain texts (`generate_until`). Tokens
are cut as it cuts them (`pairs`). Continuations of one context are options of one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from ..errors import PromptError
from .encode import Encoder
from .pairs import Pair, PairEncoder
from .request import Request

Way = Literal["loglikelihood", "loglikelihood_rolling", "generate_until"]

Option = tuple[int, int]
"""The number of a request, and that of an option in it."""


@dataclass(frozen=True)
class Asked:
    """One document's question. `texts` are (context, continuation); of a whole text and of a prompt, one part is empty.

    `until` are the texts that end what is generated, `max_new_tokens` is its limit.
    """

    way: Way
    texts: tuple[tuple[str, str], ...]
    until: tuple[str, ...] = ()
    max_new_tokens: int = 0

    @property
    def shown(self) -> str:
        """The question as a reader sees it: the context, or all contexts with their continuations."""
        contexts = dict.fromkeys(context for context, _ in self.choices)
        if self.way == "loglikelihood_rolling" or len(contexts) > 1:
            return "\n".join(context + continuation for context, continuation in self.choices)
        return next(iter(contexts))

    @property
    def choices(self) -> list[tuple[str, str]]:
        """The texts that have a context, if any has one: some tasks ask for continuations without it, too."""
        return [text for text in self.texts if text[0]] or list(self.texts)

    def cut(self, text: str) -> str:
        """Generated text up to the first of the texts that end it."""
        for end in self.until:
            text = text.split(end)[0] if end else text
        return text


@dataclass(frozen=True)
class Laid:
    """The requests of one question. `places` has, for each of its texts, the options that together are the text."""

    requests: tuple[Request, ...]
    places: tuple[tuple[Option, ...], ...]


def lay_out(asked: Sequence[Asked], encoder: Encoder) -> list[Laid]:
    """The requests of questions that ask in one way.

    Raises PromptError for a continuation that is longer than the model's context, or has no token of its own.
    """
    pairs, longest = PairEncoder(encoder), encoder.max_context
    if not asked:
        return []
    if asked[0].way == "generate_until":
        return [_prompt(one, pairs, longest) for one in asked]
    if asked[0].way == "loglikelihood_rolling":
        windows = pairs.rolling([text for one in asked for _, text in one.texts], longest)
        rolled = iter(windows)
        return [_grouped([next(rolled) for _ in one.texts]) for one in asked]
    found = iter(pairs.pairs([text for one in asked for text in one.texts]))
    return [_grouped([[next(found).shortened(longest)] for _ in one.texts]) for one in asked]


def cut_otherwise(asked: Sequence[Asked], encoder: Encoder) -> int:
    """How many questions have a continuation that our own rule would cut otherwise (`encode`)."""
    scored = [one.choices for one in asked if one.way == "loglikelihood"]
    differs = iter(PairEncoder(encoder).cut_otherwise([text for texts in scored for text in texts]))
    return sum(any([*islice(differs, len(texts))]) for texts in scored)


def responses(asked: Asked, laid: Laid, answers: Sequence[Any], text: str) -> list[Any]:
    """What lm-evaluation-harness gets for each text of a question: (log-probability, whether it is the model's own), a
    log-probability, or the generated `text`. `answers` are those of the requests."""
    if asked.way == "generate_until":
        return [asked.cut(text)]
    sums = [sum(sum(answers[n].logprobs[m]) for n, m in places) for places in laid.places]
    if asked.way == "loglikelihood_rolling":
        return sums
    own = [all(answers[n].greedy[m] for n, m in places) for places in laid.places]
    return list(zip(sums, own, strict=True))


def _grouped(texts: Sequence[Sequence[Pair]]) -> Laid:
    """Texts, each of one pair or several, as requests: those with one context together, equal ones once."""
    options: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
    places = []
    for pairs in texts:
        place = []
        for context, continuation in pairs:
            own = options.setdefault(context, {})
            place.append((list(options).index(context), own.setdefault(continuation, len(own))))
        places.append(tuple(place))
    return Laid(tuple(Request(context, tuple(own)) for context, own in options.items()), tuple(places))


def room_for_prompt(asked: Asked, longest: int) -> int:
    """How many tokens a prompt may have, so that the answer fits behind it. Raises PromptError if there is no room."""
    room = longest - asked.max_new_tokens
    if asked.max_new_tokens and room < 1:
        what = f"it generates up to {asked.max_new_tokens:,} tokens, and the model's context has {longest:,}"
        raise PromptError(what, allowed="a model with a longer context")
    return room


def _prompt(asked: Asked, pairs: PairEncoder, longest: int) -> Laid:
    [ids] = pairs.prompts([asked.texts[0][0]], room_for_prompt(asked, longest))
    return Laid((Request(ids, (), asked.max_new_tokens),), ())
