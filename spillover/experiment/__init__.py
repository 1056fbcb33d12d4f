"""An experiment's YAML becomes frozen objects; a wrong key is named.

Comes in: a YAML file and `--set` overrides. Goes out: an `Experiment` with its data sets, strategies, protocol and
claims. Nothing here looks at data or models.

To add a strategy, add an entry to `STRATEGIES` in `strategy.py`. To add a new kind of training, add a value to an
axis there; it acts in `plan/jobs.py` (`demos`) or `train/axes.py` (`weights`). To add a factor by which variants
differ, add an entry to `factors.py`. To add a key to the YAML, add a field in `schema.py` or `suite.py`. The suites
`paper` and `builtin` are in `suites/`.
"""
