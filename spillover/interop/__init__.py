"""Results of other tools become tables that can be compared with ours.

Comes in: an output folder, or the per-sample files of lm-evaluation-harness. Goes out: pairs of answers to the same
documents, with the difference and its test (`spillover compare`).

To read another tool's format, go to `answers.py`.
"""
