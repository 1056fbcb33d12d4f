"""Tasks of lm-evaluation-harness as a user has them: YAML files with rows in JSONL, one of each kind that it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = [
    "the film was fine",
    "one fish two fish",
    "the café too",
    "12 34 and so on",
    "positive negative",
    "The relation is",
]
PLACES = "import json\n\n\ndef place(doc):\n    return doc['gold']\n\n\ndef sentences(doc):\n    "
PLACES += "return [doc['q'] + ' ' + one for one in doc['choices']]\n\n\ndef ending(doc):\n    return doc['end']\n"

TASKS: dict[str, str] = {
    "choice": """output_type: multiple_choice
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
num_fewshot: 2
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_mutual_info}]
""",
    "letters": """output_type: multiple_choice
doc_to_text: "{{q}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nAnswer:"
doc_to_choice: [A, B, C]
doc_to_target: gold
num_fewshot: 1
metric_list: [{metric: acc}, {metric: brier_score}]
""",
    "contexts": """output_type: multiple_choice
doc_to_text: !function places.place
doc_to_choice: !function places.sentences
doc_to_target: !function places.ending
metric_list: [{metric: acc}]
""",
    "spaces": """output_type: multiple_choice
doc_to_text: "{{q}}: "
doc_to_choice: "{{choices}}"
doc_to_target: gold
target_delimiter: ""
metric_list: [{metric: acc}]
""",
    "last_word": """output_type: loglikelihood
doc_to_text: "{{q}}"
doc_to_target: " {{choices[0]}}"
target_delimiter: ""
metric_list: [{metric: perplexity}, {metric: acc}]
""",
    "rolling": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "written": """output_type: generate_until
doc_to_text: "Q: {{q}}\\nA:"
doc_to_target: "{{choices[0]}}"
num_fewshot: 1
generation_kwargs: {until: ["\\n\\n", "Q:", "e"], max_gen_toks: 12, do_sample: false, temperature: 0.0}
metric_list: [{metric: exact_match, ignore_case: true}]
""",
    "filtered": """output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["</s>"], max_gen_toks: 9}
filter_list:
  - {name: first, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
metric_list: [{metric: exact_match}]
""",
}


def rows(count: int) -> list[dict[str, Any]]:
    found = []
    for number in range(count):
        choices = [WORDS[(number + step) % 6] for step in (1, 2, 4)]
        q, text = WORDS[number % 6] + f" {number}", " ".join(WORDS) + " naïve résumé" * (number + 3)
        found.append({"q": q, "choices": choices, "gold": number % 3, "end": "and fine too", "text": text})
    return found


def write(folder: Path, count: int = 5) -> list[str]:
    """Write all tasks, as files of a folder for `--include_path`; their names."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(count)))
    (folder / "shots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(count + 4)[count:]))
    (folder / "places.py").write_text(PLACES)
    files = {"test": str(folder / "rows.jsonl"), "train": str(folder / "shots.jsonl")}
    head = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
    head |= {"training_split": "train", "fewshot_split": "train"}
    common = "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items())
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(f"task: local_{name}\n{common}{task}")
    return [f"local_{name}" for name in TASKS]
