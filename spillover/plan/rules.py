"""The version of each rule that decides an answer or a weight. All of them are part of keys.

Raise a version when the same input would give another output. Otherwise old cells would be taken for new ones.
"""

from __future__ import annotations

from typing import Any

RENDER_VERSION = 1  # text.prompt: the same row would be written differently
ENCODE_VERSION = 1  # text.encode: the same text would become other ids, or its answer would begin elsewhere
LM_EVAL_VERSION = 4  # text.asked, data.harness: a task of lm-evaluation-harness would be asked or scored otherwise
SAMPLE_VERSION = 2  # text.samples: the same rows would become other training samples
WATCH_VERSION = 2  # train.evaluation: other weights of the same training would be kept as the best
MERGE_VERSION = 1  # train.merge: other weights would be made of the same trained ones
WRITE_VERSION = 1  # plan.writing, engine.sampled: a base would write other texts for trainings
ENGINE_RULES = {"score": 3, "decode": 3}  # engine: its answers would change their meaning

RULES: dict[str, Any] = {"render": RENDER_VERSION, "encode": ENCODE_VERSION, **ENGINE_RULES}
"""What a cell's receipt records."""
