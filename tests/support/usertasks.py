"""Tasks of lm-evaluation-harness as a user writes them, in YAML and JSONL files: at least one of each way to ask."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = ["One", "two", "three", "six", "seven", "eight", "nine", "ten", "fish", "bird"]

UTILS = """
def process_results(doc, results):  # a short document has no score for its words
    text, words = results[0], doc["said"].split()
    found = {"has_word": float(any(word in text for word in words))} if len(words) > 3 else {}
    return {**found, "length": len(text)}


def lines(doc):
    return doc["said"] + ","
"""

CHOICES = """
output_type: multiple_choice
doc_to_text: "{{said}} then"
doc_to_choice: "{{options}}"
doc_to_target: gold
"""

TASKS = {
    "choice": CHOICES
    + """
num_fewshot: 2
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}
  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}
""",
    "binary": """
output_type: multiple_choice
doc_to_text: "{{said}}:"
doc_to_choice: [" four", " five"]
doc_to_target: parity
metric_list:
  - {metric: f1, aggregation: f1, higher_is_better: true}
  - {metric: mcc, higher_is_better: true, aggregation: matthews_corrcoef}
""",
    "contexts": """
output_type: multiple_choice
doc_to_text: parity
doc_to_choice: "{{[said + ' one', said + ' two']}}"
doc_to_target: "{{options[0]}} end"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "last_word": """
output_type: loglikelihood
doc_to_text: "{{said}}"
doc_to_target: " {{options[gold]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "whole": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{long}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "writing": """
output_type: generate_until
doc_to_text: !function utils.lines
doc_to_target: "{{options[gold]}}"
generation_kwargs: {until: [" two", "n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
filter_list:
  - name: first-word
    filter: [{function: regex, regex_pattern: "(\\\\w+)"}, {function: take_first}]
  - name: as-it-is
    filter: [{function: take_first}]
""",
    "bleu": """
output_type: generate_until
doc_to_text: "{{said}}"
doc_to_target: "{{long}}"
generation_kwargs: {max_gen_toks: 16}
metric_list: [{metric: bleu, aggregation: bleu, higher_is_better: true}]
""",
    "own_scores": """
output_type: generate_until
doc_to_text: "{{said}}"
doc_to_target: "{{options[gold]}}"
process_results: !function utils.process_results
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
num_fewshot: 1
metric_list:
  - {metric: has_word, aggregation: mean, higher_is_better: true}
  - {metric: length, aggregation: mean, higher_is_better: false}
""",
}
GROUP = """
group: pair
task: [choice, {task: binary, num_fewshot: 2}]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Sentences, with options of several lengths."""
    rng, made = random.Random(seed), []
    for _ in range(count):
        options = rng.sample(WORDS, 3)
        options[0] += " " + rng.choice(WORDS)
        said = " ".join(rng.choices(WORDS, k=rng.randint(2, 7)))
        long = " ".join(rng.choices(WORDS, k=rng.randint(2, 60)))
        made.append(
            {"said": said, "options": options, "gold": rng.randrange(3), "parity": rng.randrange(2), "long": long}
        )
    return made


def write_tasks(folder: Path, names: Sequence[str] = tuple(TASKS), count: int = 20) -> list[Path]:
    """The tasks' files, with their documents and demonstrations beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "utils.py").write_text(UTILS)
    files = {}
    for split, size, seed in (("test", count, 1), ("train", 12, 2)):
        files[split] = folder / f"{split}.jsonl"
        files[split].write_text("".join(json.dumps(row) + "\n" for row in rows(size, seed)))
    made = []
    for name in names:
        data = json.dumps({split: str(path) for split, path in files.items()})
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {data}}}\n"
        head += "test_split: test\nfewshot_split: train\nmetadata: {version: 1.0}\n"
        made.append(folder / f"{name}.yaml")
        made[-1].write_text(head + TASKS[name])
    return made


def write_rows(path: Path) -> None:
    """A training set of a known shape."""
    made = [{"prompt": row["said"], "completion": " " + row["options"][0]} for row in rows(12, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
