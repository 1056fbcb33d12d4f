"""Rows, prompts and token ids are checked before a run, and problems become findings.

Comes in: a plan, before anything is trained. Goes out: findings with row numbers: duplicates, leaks, damaged text,
unusable labels, samples that are too long, a full disk.

To add a check of rows, go to `defects.py` (one list of rows) or `overlap.py` (two lists). To add a check of prompts or
labels, go to `prompts.py`; of training samples, to `training.py`.
"""
