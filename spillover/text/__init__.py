"""A row becomes a prompt or a training sample, and that becomes token ids.

Comes in: rows of a task, their demonstrations, a prompt format and a tokenizer. Goes out: token ids, and the position
at which the answer begins. `prompt.py` is the only module that writes a row as text; `encode.py` is the only one that
turns text into tokens. Training and testing use the same two. `chat.py` has chat templates rendered in a process of
their own, and `settings.py` reads the files beside a tokenizer, which say where an answer ends.

To add a task or a prompt format, go to `task.py`. To add a way of choosing demonstrations, go to `demos.py`. What a
strategy's `demos` do to a sample is in `samples.py` and `compose.py`; which rows a training step holds, in `steps.py`.
"""
