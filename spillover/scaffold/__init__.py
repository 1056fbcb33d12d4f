"""Somebody's own files become a first experiment.

Comes in: training and test files, or nothing. Goes out: an experiment YAML with comments (`spillover init`), or the
demo's (`spillover demo`).

To change what `init` recognises, go to `init.py`. To change what it writes, go to `init.yaml.jinja`. The demo's
experiments are `demo.yaml` and, without a network, `demo-generated.yaml`.
"""
