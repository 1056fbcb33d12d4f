"""A process of its own that renders chat templates, so that no template can take all memory or all time.

A chat template is code of the model's author. Jinja's sandbox keeps it from files and from Python's internals, but not
from `"x" * 10**10` or from loops without end, and nothing inside a process can stop those. So `text.chat` starts this
file as a program with bounded memory. Each line on stdin is a task as JSON: a template and conversations. Each line on
stdout is the text of one conversation, or why there is none. A timer of the operating system ends the process where one
takes too long.

The file imports nothing of the package: it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment, Template

SECONDS = 10.0  # for one text; real templates take a thousandth of a second
MEMORY = 1 << 30  # bytes of the whole process
CHARACTERS = 1 << 24  # of a rendered text
# The date of today for chat templates: prompts, and with them keys, must not change overnight.
TEMPLATE_DATE = datetime(2024, 7, 26)


def environment() -> Environment:
    """Jinja in a sandbox, with the functions that transformers gives to chat templates."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} marks the assistant's text, for masks. Here only its content counts."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        """As transformers has it; jinja's own filter escapes for HTML."""
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": raise_exception, "strftime_now": TEMPLATE_DATE.strftime}
    return made


@lru_cache(maxsize=8)
def compiled(source: str) -> Template:
    return environment().from_string(source)


def variables(source: str) -> dict[str, Any]:
    """The names that a template takes from outside."""
    from jinja2.meta import find_undeclared_variables

    made = environment()
    return {"variables": sorted(find_undeclared_variables(made.parse(source)) - made.globals.keys())}


def answers(task: dict[str, Any], seconds: float) -> Iterator[dict[str, Any]]:
    """A `text` or an `error` for each of a task's conversations; for a task without them the template's `variables`."""
    if "conversations" not in task:
        yield _tried(variables, task["source"])
    for messages in task.get("conversations", ()):
        tools = messages[0].pop("tools", None) if messages else None
        values = {**task["values"], "messages": messages, "tools": tools}
        signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody handles the signal, so it ends even a long step in C
        yield _tried(_text, task["source"], values)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _text(source: str, values: dict[str, Any]) -> dict[str, Any]:
    text = compiled(source).render(values)
    if len(text) > CHARACTERS:
        return {"error": f"it writes {len(text):,} characters; {CHARACTERS:,} are allowed"}
    return {"text": text}


def _tried(work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    try:
        return work(*given)
    except MemoryError:
        return {"error": f"it needs more than {MEMORY >> 20:,} MB of memory"}
    except Exception as error:  # whatever code can raise: of the template itself, of a type, of a missing name
        kind = "" if type(error).__name__ == "TemplateError" else f"{type(error).__name__}: "
        return {"error": kind + " ".join(str(error)[:1000].split())[:200]}


def main() -> None:
    with suppress(ImportError, ValueError, OSError):  # a system without such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
    for line in sys.stdin:
        for answer in answers(json.loads(line), float(sys.argv[1])):
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
