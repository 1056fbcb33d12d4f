"""Training samples become the weights of a variant.

Comes in: samples of token ids and a `Recipe`. Goes out: an ordinary Hugging Face checkpoint or a PEFT adapter, with a
record of its losses. `trainer.py` is a `transformers.Trainer` that computes shared prefixes once. It walks through the
steps of `text/steps.py`; `passes.py` makes token trees of a step, `losses.py` says what each answer token counts, and
`base.py` what the base says of the samples. `merge.py` makes weights of trained ones.

To add a rule for which weights may move, add its class to `experiment/axes.py` and a function to `axes.py`. To add a
loss, add its class to `experiment/objective.py` and a function to `losses.py`, `FACTORS`.
"""
