"""Results of other tools become tables that can be compared with ours, and ours become files for other tools.

Comes in: an output folder, or the per-sample files of lm-evaluation-harness. Goes out: pairs of answers to the same
documents, with the difference and its test (`spillover compare`); and what a folder holds, in other tools' formats
(`spillover export`).

In the other direction, `lm_eval_command.py` and `harness_model.py` put our engine under the command line of
lm-evaluation-harness.

To read another tool's format, go to `answers.py`; to write one, go to `export.py`.
"""
