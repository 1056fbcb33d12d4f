"""The base model writes what trainings ask for (`plan.writing`): texts of its own, answers in its own words.

It writes in float32, in groups that do not depend on where a process was killed, so another process goes on with the
same bytes. While one process writes, others that need the same wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..engine.port import Engine
from ..fingerprint import fingerprint
from ..plan.cost import TEXT
from ..plan.writing import OwnTexts, Rewriting, Writing
from ..store.store import Json
from ..text.request import Request
from ..text.rewrite import says_the_same
from ..text.samples import Sample
from ..text.stops import cut
from ..text.task import Example
from .run import Run

AT_ONCE = 32  # texts or answers that are written together


def own_texts(run: Run, name: str, writing: OwnTexts) -> list[Sample]:
    """The base's texts as samples: loss on every token after the separator, with a mean of its own in each step."""
    how, encoder = writing.how, run.plan.encoder
    ends = encoder.eos_ids | {encoder.separator}

    def begin() -> Callable[[Sequence[int]], list[Json]]:
        write = run.backend.writer(run.model.folder, run.plan.experiment.trust)

        def of(numbers: Sequence[int]) -> list[Json]:
            texts = write(encoder.separator, numbers, how.text_tokens, how.temperature, ends)
            return [{"ids": list(ids), "text": encoder.decode(ids)} for ids in texts]

        return of

    own = {"separator": encoder.separator, **how.written}
    rows = _written(run, name, writing, [how.text_tokens] * how.texts, begin, own)
    texts = [(encoder.separator, *row["ids"]) for row in rows]
    return [Sample(ids, ((1, len(ids)),), how.weight, apart=True) for ids in texts]


def rewritten(
    run: Run, name: str, writing: Rewriting, rows: Sequence[Example], stops: Sequence[str]
) -> tuple[list[Example], int]:
    """The rows with their answers in the base's words, where these say the same; and how many that are."""
    encoder = run.plan.encoder

    def begin() -> Callable[[Sequence[int]], list[Json]]:
        engine: Engine = run.load(run.model.folder, encoder, "float32")[0]
        stop = encoder.stop_rule(stops)

        def of(numbers: Sequence[int]) -> list[Json]:
            ids = encoder.prompt_for_generation([writing.prompts[n] for n in numbers], writing.chat)
            asked = [Request(each, max_new_tokens=writing.limits[n]) for n, each in zip(numbers, ids, strict=True)]
            said = dict(engine.run(asked, stop))
            answers = [said[place] for place in range(len(asked))]
            return [{"text": cut(encoder.decode(a.generated or ()), stops), "ended": a.ended} for a in answers]

        return of

    made = _written(run, name, writing, writing.limits, begin, {})
    answers = iter(made)
    changed: list[Example] = []
    for row in rows:
        said = None if row.whole else next(answers)
        kept = said is not None and said["ended"] != "limit" and says_the_same(row.target, said["text"])
        changed.append(replace(row, target=_spaced(row.target, said["text"])) if said and kept else row)
    return changed, sum(new is not old for new, old in zip(changed, rows, strict=True))


def _written(
    run: Run,
    name: str,
    writing: Writing,
    limits: Sequence[int],
    begin: Callable[[], Callable[[Sequence[int]], list[Json]]],
    own: Json,
) -> list[Json]:
    """The rows of what is written, a row for each of the `limits`; written now if they are not there.

    `begin` loads the model and returns what writes the rows with some numbers. `own` is for the receipt.
    """
    found = run.store.written(writing.key)
    if found is None:
        with run.store.lock_written(writing.key):
            found = run.store.written(writing.key)  # another process may have written it meanwhile
            if found is None:
                _write(run, name, writing, limits, begin, own)
                found = run.store.written(writing.key)
    assert found is not None
    rows: list[Json] = found["rows"]
    return rows


def _write(
    run: Run,
    name: str,
    writing: Writing,
    limits: Sequence[int],
    begin: Callable[[], Callable[[Sequence[int]], list[Json]]],
    own: Json,
) -> None:
    """Write all rows, or those that a killed process has left."""
    unit, began, write = f"written-{writing.key}", time.perf_counter(), None
    hashes = [fingerprint([writing.key, number]) for number in range(len(limits))]
    there, works = run.store.partial(unit)
    for start in range(0, len(limits), AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, len(limits)))
        run.reporter.doing(f"{name}: the base writes, {start} of {len(limits)}")
        if not all(hashes[number] in there for number in numbers):
            write = write or begin()
            rows = [{"prompt_hash": hashes[n], **row} for n, row in zip(numbers, write(numbers), strict=True)]
            works.append({"seconds": time.perf_counter() - began})
            run.store.append_partial(unit, rows, works[-1])
            there |= {row["prompt_hash"]: row for row in rows}
            began = time.perf_counter()
        run.reporter.worked(TEXT, sum(limits[number] for number in numbers))
    rows = [{key: value for key, value in there[one].items() if key != "prompt_hash"} for one in hashes]
    receipt = run.receipt(
        base=run.model.identity,
        tokenizer=run.plan.encoder.identity,
        **own,
        seconds=round(sum(work["seconds"] for work in works), 1),
        sha256=fingerprint(rows),
    )
    run.store.write_written(writing.key, rows, {**receipt, "precision": "float32"})
    run.store.drop_partial(unit)
    run.reporter.say(f"{name}: the base has written {len(rows)} texts for it")


def _spaced(gold: str, said: str) -> str:
    """The text with the white space that the gold answer has at its ends."""
    begin, end = len(gold) - len(gold.lstrip()), len(gold.rstrip())
    return gold[:begin] + said + gold[end:]
