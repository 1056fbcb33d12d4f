"""What a task of lm-evaluation-harness asks about one document, read from its own requests.

What cannot be asked here is refused in one line: answers that are drawn at random, and one document asked in several
ways at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from ..errors import SourceUnavailable
from ..text.asked import Asked, Way

MAX_NEW_TOKENS = 256  # where a task states no limit, as in lm-evaluation-harness

# What it may say of a generation. Every limit is one of the first; all others must leave the answer greedy.
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
GREEDY = {"num_beams": (1,), "repetition_penalty": (1,), "num_return_sequences": (1,)}
OF_SAMPLING = {"do_sample", "temperature", "top_p", "top_k", "min_p", "seed"}


def asked_of(name: str, instances: Sequence[Any]) -> Asked:
    """What the instances of one document ask.

    Raises SourceUnavailable for answers that are drawn at random, and for what is asked in several ways at once.
    """
    ways = {one.request_type for one in instances}
    if len(ways) > 1 or not ways <= set(get_args(Way)):
        raise _refused(name, f"it asks about one document by {' and '.join(sorted(ways))}")
    way: Way = instances[0].request_type
    if way == "loglikelihood":
        return Asked(way, tuple((str(one.args[0]), str(one.args[1])) for one in instances))
    if way == "loglikelihood_rolling":
        return Asked(way, tuple(("", str(one.args[0])) for one in instances))
    if len(instances) > 1:
        raise _refused(name, "it has several answers written about one document")
    context, asked = instances[0].args
    for key, value in asked.items():
        if key not in {*LIMITS, *OF_SAMPLING, "until"} and value not in GREEDY.get(key, ()):
            raise _not_greedy(name, f"{key}: {value}")
    drawn = asked.get("do_sample", float(asked.get("temperature") or 0) > 0)
    if drawn and float(asked.get("temperature", 1.0) or 0) > 0:
        raise _not_greedy(name, "do_sample")
    until = asked.get("until") or []
    limit = next((int(asked[key]) for key in LIMITS if asked.get(key) is not None), MAX_NEW_TOKENS)
    return Asked(way, ((str(context), ""),), tuple([until] if isinstance(until, str) else map(str, until)), limit)


def _not_greedy(name: str, what: str) -> SourceUnavailable:
    return _refused(name, f"its generation_kwargs have {what}, and answers are only decoded greedily here")


def _refused(name: str, why: str) -> SourceUnavailable:
    return SourceUnavailable(why, where=f"test.lm_eval: {name}", allowed="ask it with lm_eval itself")
