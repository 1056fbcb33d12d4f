"""Every kind of thing that a check finds odd: what it is called, and how to mend it.

The name stands where many lists share a line. The advice ends the line of each finding: an instruction, or a sentence
that says why nothing needs to be done.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Kind(NamedTuple):
    name: str
    mend: str


IN_ANOTHER_LIST: Mapping[str, str] = MappingProxyType(
    {
        "train": "take them out of the training rows; the clean scores of a report leave them out of the test rows",
        "demos": "show other rows, unless all rows are alike by nature",
    }
)
"""How to mend rows of a list that are also, or nearly, training rows or demonstrations."""

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # of rows
        "short": Kind("fewer rows than requested", "add rows, or ask for fewer"),
        "empty": Kind("an empty field", "fill the field, or take these rows out of the file"),
        "no_answer": Kind("an empty answer", "give them an answer, or take them out of the file"),
        "mojibake": Kind("broken characters", "convert the file to UTF-8 once more from its source"),
        "markup": Kind("markup", "take the tags out, unless the model should see them"),
        "entity": Kind("HTML entities", "write the characters themselves, as html.unescape does"),
        "escape": Kind("literal escapes", "set unescape: true for the data set, or write the characters themselves"),
        "label_outside": Kind(
            "labels that the task lacks", "list them under labels, translate them by target_map, or name drop_labels"
        ),
        "label_respelled": Kind(
            "labels in another spelling", "list them under labels if they are other labels; else nothing is wrong"
        ),
        "label_absent": Kind("labels that no row has", "add rows with it, or leave it out of labels"),
        "unbalanced": Kind("labels shown unevenly", "show each label equally often"),
        "one_option": Kind("one option only", "give each row two options or more, or take these rows out"),
        "option_place": Kind("the place of the right option", "shuffle the options of each row"),
        "option_length": Kind(
            "the length of the right option", "write wrong options that are as long as the right one"
        ),
        "no_word": Kind("references without a word", "read chrf and exact_match there"),
        "same_words": Kind("references that only a sign tells apart", "read chrf and exact_match there"),
        "short_references": Kind("references too short for BLEU", "read chrf and exact_match instead"),
        "duplicate": Kind("duplicates", "keep one of each"),
        "near_duplicate": Kind("nearly duplicates", "keep one of each"),
        "shared_field": Kind(
            "share a field", "intervals count each group as one; more groups, not more rows, make them narrower"
        ),
        "shared_target": Kind(
            "target of a training row", "take test rows with other answers, unless these answers repeat by nature"
        ),
        "length": Kind(
            "another length than in training", "choose texts of a like length, if only the domain should differ"
        ),
        # of prompts and answers
        "joint_apart": Kind("joint", "protocol: {answer_joint: together} encodes both together"),
        "joint_of_text": Kind("joint", r'answer_delimiter: "\n" may avoid it'),
        "joint_in_chat": Kind("joint", "a prompt format of your own in place of chat may avoid it"),
        "answer_too_long": Kind("long answers", "raise max_new_tokens"),
        "answer_stopped": Kind(
            "answers with a stop string",
            "name other texts under stop (stop: [] for none), or take it out of the answers",
        ),
        "answer_special": Kind("answers with special tokens", "write the answers without them"),
        "answer_runs_on": Kind("answers of one line", r'stop: ["\n"] ends an answer there'),
        "trailing_space": Kind("space at the end", "take the space out; a space stands before an answer anyway"),
        "bos_in_chat": Kind("BOS", "let the chat template write bos_token once"),
        "bos_differs": Kind("BOS", "protocol: {bos: alike} begins all texts alike"),
        # of training samples
        "sample_shortened": Kind("long samples", "raise train.max_length, or show fewer demonstrations in training"),
        "context_cut": Kind("long samples", "raise train.max_length, or lower rows_in_context"),
        "first_without_loss": Kind("unlikely answers", "raise most_perplexity, or take another strategy"),
        "sample_dropped": Kind("long samples", "raise train.max_length, or shorten these rows"),
        "sample_beyond": Kind("long samples", "lower train.max_length"),
        "warmup_unused": Kind("warm-up", "use constant_with_warmup"),
        "warmup_too_long": Kind("warm-up", "lower warmup_steps, or train for more steps"),
        # of the machine
        "disk": Kind("disk", "set keep: adapter or none, or give another --output_path"),
    }
)


def mended(what: str, kind: str) -> str:
    """The line of a finding with its advice."""
    return f"{what}; {KINDS[kind].mend}"
