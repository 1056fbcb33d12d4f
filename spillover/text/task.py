"""What a task is: the fields of a row, the labels if there are any, and how a row becomes a prompt.

The five tasks of the study (`FIVE`) are ordinary `Task` values; a user's own data becomes one more.
A task with labels is a classification task, one without is a generation task (`Task.kind`).

Source: Yang et al. 2024 (arXiv 2403.09162), Tables 1, 4 and 5; fields and prompts as released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..experiment.suite import Kind


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set.

    `doc_id` is the row's number in its source (0-based), `fields` the task's inputs by name,
    `target` the reference answer, `turns` earlier (role, text) turns of a conversation.
    """

    doc_id: int
    fields: Mapping[str, str]
    target: str
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def content(self) -> tuple[str, ...]:
        """What makes two rows the same question: turns and inputs, white space and case folded."""
        parts = [text for _, text in self.turns] + [self.fields[name] for name in sorted(self.fields)]
        return tuple(" ".join(part.casefold().split()) for part in parts)


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How a row is written as text. Used alike for demonstrations, training and scoring.

    `template` is a `str.format` pattern over the task's fields. `answer_delimiter` stands between
    prompt and answer; None means one space, or nothing where the prompt ends in white space.
    `chat` sends the text through the tokenizer's chat template instead of joining it. `opening` stands before
    everything: only the protocol `paper` puts something there.
    """

    name: str
    template: str
    answer_delimiter: str | None = None
    demo_separator: str = "\n\n"
    chat: bool = False
    opening: str = ""


@dataclass(frozen=True)
class Task:
    """A task: its fields, its labels (None: free text), its prompt formats and its defaults.

    `shots` are the test shot counts and `fticl_shots` the demonstrations in FTICL training samples.
    The first metric is the one that figures, matrix and verdict show.
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...] | None
    prompts: Mapping[str, PromptFormat]
    metrics: tuple[str, ...]
    shots: tuple[int, ...]
    fticl_shots: tuple[int, ...]
    max_new_tokens: int = 60
    title: str = field(default="", compare=False)

    @property
    def kind(self) -> Kind:
        """A task with labels is a classification task, one without is a generation task. Decided here alone."""
        return "generation" if self.labels is None else "classification"

    @property
    def is_classification(self) -> bool:
        return self.kind == "classification"


CLASSIFICATION_METRICS = ("accuracy", "macro_f1", "off_format")
GENERATION_METRICS = ("rougeL", "bleu", "off_format")


def prompt_formats(**templates: str) -> Mapping[str, PromptFormat]:
    """Prompt formats by name, from `name=template`."""
    return MappingProxyType({name: PromptFormat(name, text) for name, text in templates.items()})


_SENTENCES = "### Input_1:\n{input_1}\n### Input_2:\n{input_2}\n"

FIVE: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                name="summarisation",
                title="Summarisation",
                fields=("input",),
                labels=None,
                prompts=prompt_formats(
                    p1="### Input:\n{input}\n### Summary:",
                    p2="Please read the following text:{input}\nProvide a summary:",
                ),
                metrics=GENERATION_METRICS,
                shots=(0, 1, 2, 4),
                fticl_shots=(1, 2),
            ),
            Task(
                name="question_generation",
                title="Question generation",
                fields=("input", "answer"),
                labels=None,
                prompts=prompt_formats(
                    p1="### Input:\n{input}\n### Answer:\n{answer}\n### Question:",
                    p2="Given the context:{input}\nAnd the answer:{answer}\nGenerate a suitable question:",
                ),
                metrics=GENERATION_METRICS,
                shots=(0, 1, 2, 4),
                fticl_shots=(1, 2),
                max_new_tokens=40,
            ),
            Task(
                name="sentiment",
                title="Sentiment",
                fields=("input",),
                labels=("positive", "negative"),
                prompts=prompt_formats(
                    p1="### Input:\n{input}\n### Sentiment:",
                    p2="Analyze the sentiment of the following text:{input}\nSentiment:",
                ),
                metrics=CLASSIFICATION_METRICS,
                shots=(0, 2, 4, 6),
                fticl_shots=(2, 4),
            ),
            Task(
                name="paraphrase",
                title="Paraphrase",
                fields=("input_1", "input_2"),
                labels=("yes", "no"),
                prompts=prompt_formats(
                    p1=_SENTENCES + "### Paraphrase Classification:",
                    p2="Let's compare the two sentences: Sentence_1:{input_1}\nSentence_2:{input_2}\n"
                    "Are they paraphrasing?:",
                ),
                metrics=CLASSIFICATION_METRICS,
                shots=(0, 2, 4, 6),
                fticl_shots=(2, 4),
            ),
            Task(
                name="inference",
                title="Inference",
                fields=("input_1", "input_2"),
                labels=("entailment", "neutral", "contradiction"),
                prompts=prompt_formats(
                    p1=_SENTENCES + "### Inference:",
                    p2="Consider the following texts: Text 1:{input_1}\nText 2:{input_2}\nThe relation is ",
                ),
                metrics=CLASSIFICATION_METRICS,
                shots=(0, 3, 5, 7),
                fticl_shots=(3, 5),
            ),
        )
    }
)
