"""Requests of token ids become log-probabilities and generated ids.

Comes in: a loaded model and `Request`s: the ids of a prompt, and of the options if there are any. Goes out: one
`Answer` each. An engine knows no task, label or shot. `shared.py` computes each common token prefix once; `plain.py`
is the reference without sharing.

To add an engine, write a class with the method `run` of `port.Engine`, and choose it in `hf.load_engine`.
`kernels.py` holds what is faster on one kind of processor; it may be deleted.
"""
