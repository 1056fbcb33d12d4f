"""An experiment becomes variants, test questions and cells, each with its key and cost.

Comes in: an `Experiment`, its rows and its tokenizer. Goes out: a `Plan`: jobs (how each variant is made), questions
(every test row as text) and a `Grid` of variants and cells. Nothing is trained here, and torch is not imported.

To add a kind of job, such as one that merges trained variants, go to `jobs.py`. To change a rule that decides texts,
ids, samples or answers, raise its version in `rules.py`.
"""
