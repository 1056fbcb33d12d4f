"""Rows, prompts and token ids are checked, and what would go wrong becomes findings.

Comes in: a plan, before anything is trained. Goes out: findings with row numbers: duplicates, leaks, damaged text,
unusable labels, samples that are too long, a full disk.

To add a check of rows, go to `defects.py` (one list of rows) or `overlap.py` (two lists). To add a check of prompts,
labels or samples, go to `prompts.py`.
"""
