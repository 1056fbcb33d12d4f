"""The terms of the page: what each means, and where the page explains it.

`TERMS` is data. `explained` goes through the finished page and makes the first use of each term a button that shows
its meaning. It needs no script and no pointer, so it works on touch. In print the meaning stands in brackets. A
term that first stands in a folded part is explained there, and again where it first stands in view.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape

from ..stats.intervals import MIN_ROWS


@dataclass(frozen=True)
class Term:
    """A term, its meaning, and the words that it stands for in the text (by default its own name)."""

    name: str
    meaning: str
    words: str = ""

    @property
    def pattern(self) -> str:
        return self.words or re.escape(self.name)


TERMS = (
    Term("Cell", "The answers of one variant to one test set, with one number of demonstrations, one prompt format and "
         "one draw of the demonstrations. It is the smallest part of a run.", "cells?"),
    Term("Variant", "The base model, or a model that was made from it. Two trainings that differ in their seed alone "
         "are two variants of one recipe.", "variants?"),
    Term("Recipe", "How a model was trained: method, data, learning rate and so on, without the seed.", "recipes?"),
    Term("FT", "Plain fine-tuning: training on questions and their answers."),
    Term("FTICL", "Fine-tuning with in-context learning: the same demonstrations stand before every training row."),
    Term("Seed", "The number from which all random draws of a training follow. Trainings of one recipe with several "
         "seeds show how much chance there is in it.", "seeds?(?! ±)"),
    Term("Protocol", "The rules by which prompts are written and answers are scored. Scores of different protocols "
         "cannot be compared.", "protocol"),
    Term("Base", "The model before fine-tuning. Every change on this page is a change from it.", "base"),
    Term("In-domain", "A test set from the domain that the model was trained on.", "in-domain"),
    Term("Out-of-domain", "A test set of the same task, from another domain than the training set.", "out-of-domain"),
    Term("Cross-task", "A test set of another task than the one that the model was trained on. A role belongs to a "
         "pair of training and test set, so variants of different training sets have separate tables.", "cross-task"),
    Term("Shots", "The number of demonstrations in the prompt: solved examples that stand before the question.",
         "shots?"),
    Term("Demonstration", "A solved example that stands in the prompt before the question.", "demonstrations?"),
    Term("Draw", "Which demonstrations were drawn. Another draw has other ones.", "draws?"),
    Term("Prompt format", "The words around the fields of a row. p1 is the first format of a task, p2 the second.",
         "prompt formats?|prompts"),
    Term("Points", "Scores are from 0 to 100. A change from 40 to 45 is 5 points.", "points"),
    Term("n", "The number of documents (rows of the test set) that a number rests on.", r"n(?=(?:[ \u00a0]|&nbsp;)\d)"),
    Term("Components", "Rows that share a sentence depend on each other, so they count as one component. Intervals "
         "resample components, not rows.", "components?"),
    Term("Interval", "With 95 % confidence the true number lies between the two ends. Wilson’s interval for a "
         "proportion in one cell, the bootstrap otherwise. Where shots and prompts are averaged, documents are "
         "resampled with all their answers, since a second question about the same document is no new evidence. "
         "Several draws or training seeds widen it.", "95 % intervals?|intervals?"),
    Term("Change", "The difference of scores from the base on the same rows with the same shots, prompt and "
         "demonstrations. This pairing removes the difficulty that a row has for both models.", "changes?"),
    Term("Holm", "Holm’s correction. Of many comparisons some look like a change by chance. The correction asks "
         "for stronger evidence, the more comparisons are shown together.", "Holm(?:’s correction)?"),
    Term("p", "How likely a difference as large as this one would be if there were none.", r"p(?= (?:&lt;|<) ?0)"),
    Term("Beyond chance", f"p below 0.05 after Holm’s correction over the changes shown together, an interval that "
         f"excludes zero, and at least {MIN_ROWS} independent documents. In the table of results every row is a "
         "single comparison, and its mark follows the interval alone.", "beyond chance"),
    Term("Insufficient evidence", "The rows do not show whether there is a change. It does not mean that nothing "
         "changed.", "insufficient evidence"),
    Term("80 % power", "A true change of this size is found in 8 of 10 such experiments.", "80 % power|power"),
    Term("Noise floor (seeds ±)", "In 95 % of cases, two trainings of one recipe with different seeds differ by less "
         "than this. It is measured where a recipe has several seeds. A smaller change of one checkpoint could come "
         "from the seed.", "noise floor|seeds ±"),
    Term("Rounding floor (rounding ±)", "What rounding alone may change, in 95 % of cases, where texts were generated "
         "in bfloat16. It is measured on texts that were generated in float32 as well. A smaller effect is not called "
         "a change. Close decisions between labels were made again in float32, so they have no such floor.",
         "rounding floor|rounding ±"),
    Term("Chance", "The accuracy of random guesses.", r"chance(?= \d)"),
    Term("Accuracy", "The share of right answers.", "accuracy"),
    Term("ROUGE-L", "How much of the reference’s word sequence an answer has, from 0 to 100 (F-measure, no stemming).",
         "ROUGE-L"),
    Term("BLEU, chrF", "Overlap of words (BLEU) or of characters (chrF) with the reference, by sacrebleu.",
         "BLEU|chrF"),
    Term("Macro-F1", "The mean over labels of F1, so that rare labels count as much as frequent ones.",
         "macro-F1|Macro-F1"),
    Term("Off-format", "The freely generated answer is not a label or an option, or is empty. For free text: it is "
         "empty or a label.", "off-format|left the format"),
    Term("Forced choice", "The most probable of the given labels counts as the answer, even if the model would have "
         "generated something else.", "forced choice"),
    Term("Pareto front", "A variant is on it if no other variant is better both in-domain and elsewhere."),
    Term("Resample", "The test rows and test sets are drawn again, with repetition, many times. What holds in nearly "
         "all resamples does not depend on a few rows.", "resamples?"),
    Term("Retention", "How much of what the base could do is left outside the training set’s own domain.",
         "retention"),
    Term("Slope over shots", "What each further demonstration adds to the score.", "slope over shots|slope"),
    Term("KL", "Kullback-Leibler divergence: how far the variant’s predictions lie from those of the base. 0 means "
         "equal.", r"KL(?:\([^)]*\))?"),
    Term("Frobenius norm", "The root of the sum of the squares of all numbers of a matrix: its length."),
    Term("bfloat16, float32", "Numbers of 16 and of 32 bits. With bfloat16 a model is faster on some processors, and "
         "its answers are less exact.", "bfloat16|float32"),
    Term("Shared prefix", "The beginning that several prompts or samples have in common. It is computed once; “without "
         "sharing” counts every prompt in full.", "shared prefix(?:es)?"),
    Term("Nats", "The unit of log-probabilities with the natural logarithm. 0.69 nats are one bit.", "nats?"),
    Term("Alpha", "How far the weights went from the base (0) to the fine-tuned model (1).", "alpha"),
    Term("Validation rows", "Rows that are neither trained on nor tested. Choices are made on them.",
         "validation rows?"),
    Term("Clean rows", "The test rows that do not leak from what the variant was trained on. A row leaks if the same "
         "row, nearly the same row, or one of its texts was trained on.", "clean rows?|clean scores?"),
    Term("Ship", "The advice is to ship a variant that gains somewhere and loses nowhere, beyond chance, or that keeps "
         "the share of the base’s score that ship.keep asks for. Of several, the one that gains most.", "[Ss]hip"),
)  # fmt: skip

# Where a term is no word of the page: names from data, code, links, and headings, whose sections explain it.
UNTOUCHED = {"a", "button", "summary", "label", "option", "select", "svg", "pre", "code", "q", "bdi", "style", "script"}
UNTOUCHED |= {"h1", "h2", "h3", "h4", "h5", "nav", "title", "noscript", "dfn", "time"}
VOID = {"br", "hr", "img", "input", "meta", "line", "rect", "path", "wbr"}
TAG = re.compile(r"(<!--.*?-->|<[^>]*>)", re.DOTALL)


def explained(html: str) -> str:
    """The page with the first use of each term made a button with its meaning. All outside of `main` stays."""
    begin, end = html.index("<header"), html.index('<section id="read"') if '<section id="read"' in html else len(html)
    return html[:begin] + _Explainer().explain(html[begin:end]) + html[end:]


@dataclass
class _Explainer:
    """What is open at a place of the page, and which terms are explained already: in view, and in the folded part."""

    due: list[Term] = field(default_factory=lambda: list(TERMS))
    open: list[str] = field(default_factory=list)
    folded: list[Term] = field(default_factory=list)
    made: int = 0

    def explain(self, html: str) -> str:
        return "".join(self._tag(part) if part.startswith("<") else self._text(part) for part in TAG.split(html))

    def _tag(self, tag: str) -> str:
        name = re.sub(r"^</?|[\s/>].*$", "", tag, flags=re.DOTALL).lower()
        if tag.startswith("</"):
            while self.open and self.open.pop() != name:
                pass
            if "details" not in self.open:
                self.folded = []
        elif not tag.endswith("/>") and not tag.startswith("<!") and name not in VOID:
            self.open.append(name)
        return tag

    def _text(self, text: str) -> str:
        if not text.strip() or UNTOUCHED.intersection(self.open):
            return text
        is_folded = "details" in self.open
        due = [term for term in self.due if not is_folded or term not in self.folded]
        found = {}
        for term in due:
            if match := re.search(rf"(?<![\w-])(?:{term.pattern})(?![\w-]|(?<=\w)’)", text, re.IGNORECASE):
                found[match.start()] = (match.end(), term)
        parts, at = [], 0
        for start, (end, term) in sorted(found.items()):
            if start < at:  # within a term that was found before it
                continue
            (self.folded.append if is_folded else self.due.remove)(term)
            self.made += 1
            parts += [text[at:start], _button(f"term-{self.made}", text[start:end], term.meaning)]
            at = end
        return "".join([*parts, text[at:]])


def _button(name: str, word: str, meaning: str) -> str:
    return (
        f'<dfn><button type="button" class="term" popovertarget="{name}">{word}</button>'
        f'<span popover id="{name}" class="meaning">{escape(meaning)}</span></dfn>'
    )
