"""Stored answers become scores, paired changes, effects, a verdict and judged claims.

Comes in: the store of a run, complete or not. Goes out: `Results` and numbers with their n, their interval and what
they are compared with. Nothing is drawn here.

To add a metric, add an entry to `METRICS` in `metrics.py`. To add an effect that the report tests, go to
`effects.py`. To add a measure for claims, go to `measures.py`.
"""
