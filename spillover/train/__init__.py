"""Training samples become the weights of a variant.

Comes in: samples of token ids and a `Recipe`. Goes out: an ordinary Hugging Face checkpoint or a PEFT adapter, with a
record of its losses. `trainer.py` is a `transformers.Trainer` that computes shared prefixes once.

To add a rule for which weights may move, add its class to `experiment/strategy.py` and a function to `axes.py`.
"""
