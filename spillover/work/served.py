"""vLLM answers for a variant, once it has given the plain engine's answers to some requests of the run.

What a variant is and what changed inside it is found with transformers, as ever. Then the plain engine, which is loaded
for that, answers the requests of the probe, and its model leaves the memory before vLLM takes it. If vLLM cannot be
started, fails, or answers otherwise (`engine.parity`), the engine that shares prefixes answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.machine import one_line
from ..plan.cost import Parts, kind_of
from ..plan.questions import requests_for
from ..text.encode import Encoder
from ..text.request import Request, StopRule
from .run import Run

if TYPE_CHECKING:
    from ..engine.port import Answer, Engine
    from ..engine.vllm import VllmEngine


class Probe:
    """Requests of the first unit with labels and of the first with texts, and the plain engine's answers to them."""

    def __init__(self, engine: Engine, encoder: Encoder, asked_by: Encoder, units: Sequence[Parts]) -> None:
        from ..engine.parity import REQUESTS, chosen

        firsts = {kind_of(parts[0][1]): parts for parts in reversed(units)}
        self.asked: list[tuple[list[Request], Sequence[Answer], StopRule]] = []
        for parts in firsts.values():
            every = [one for _, sheet in parts for one in requests_for(sheet, sheet.questions, asked_by)]
            requests = chosen(every, REQUESTS // len(firsts))
            stop = encoder.stop_rule(parts[0][1].stop)
            found = dict(engine.run(requests, stop))
            self.asked.append((requests, [found[number] for number in range(len(requests))], stop))

    def why_not(self, engine: Engine, precision: str) -> str | None:
        """Why an engine is not to be trusted."""
        from ..engine.parity import why_not

        return next((why for asked in self.asked if (why := why_not(engine, *asked, precision))), None)


def start(run: Run, folder: Path, encoder: Encoder, probe: Probe) -> tuple[VllmEngine | None, str | None]:
    """vLLM with a variant, or why it is not to be used."""
    engine = None
    try:
        engine = run.serve(folder, encoder)
        why = probe.why_not(engine, run.precision)
    except Exception as error:  # whatever another program does with an unknown model, our own engines can answer
        why = f"{type(error).__name__}: {one_line(error)}"
    if why is None:
        return engine, None
    if engine is not None:
        with suppress(Exception):  # `why` says what is wrong with it
            engine.close()
    return None, why
