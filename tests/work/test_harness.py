"""Tasks of lm-evaluation-harness as test sets, held against lm-evaluation-harness itself, to the last document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chattemplates
import pytest
import smalltokenizers
import tinymodels
import usertasks

import spillover
from spillover.engine import attention
from spillover.store.store import Store

lm_eval = pytest.importorskip("lm_eval")

LIMIT = 9
SAMPLES = Mapping[str, list[dict[str, Any]]]


def write_model(folder: Path, **config: Any) -> Path:
    """A model that reads 160 tokens: long documents take several windows, and long prompts lose their beginning."""
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    tokenizer = smalltokenizers.byte_level(special_tokens=special)
    smalltokenizers.write(folder, tokenizer, tokenizer_class="PreTrainedTokenizerFast", eos_token="</s>", **config)
    attention.register()
    sizes = {"vocab_size": 500, "eos_token_id": 2, "pad_token_id": 2, "max_position_embeddings": 160}
    tinymodels.build(gain=4.0, **sizes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("harness")
    write_model(place / "tiny", chat_template=chattemplates.CHATML)
    usertasks.write_tasks(place / "tasks")
    (place / "tasks" / "pair.yaml").write_text(usertasks.GROUP)
    return place


@pytest.fixture(scope="module")
def ran(place: Path) -> Path:
    """The output folder of a run over all tasks: by default shots, at 2 shots, and through the chat template."""

    asked = ", ".join(f"./tasks/{name}.yaml" for name in usertasks.TASKS)
    text = f"model: ./tiny\ntest: {{lm_eval: [{asked}], limit: {LIMIT}, shots: [0, 2], prompts: [lm_eval, chat]}}\n"
    (place / "all.yaml").write_text(text + f"output_dir: {place / 'out'}\nprecision: float32\n")
    spillover.run(place / "all.yaml")
    return place / "out"


def theirs(place: Path, shots: int | None, chat: bool = False) -> dict[str, Any]:
    """What lm-evaluation-harness makes of the same tasks."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(place / "tiny"), dtype="float32", batch_size=1, device="cpu")
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=model,
        tasks=[str(place / "tasks" / f"{name}.yaml") for name in usertasks.TASKS],
        num_fewshot=shots,
        limit=LIMIT,
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    return found


def rows_of(folder: Path, test: str, shots: int, prompt: str) -> list[dict[str, Any]]:
    store = Store(folder)
    [cell] = [c for c in store.grid().cells if (c.test, c.shots, c.prompt) == (test, shots, prompt)]
    return store.predictions(cell.key)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("shots", "prompt"), [(0, "lm_eval"), (2, "lm_eval"), (2, "chat")])
def test_the_same_scores_to_the_last_document(place: Path, ran: Path, shots: int, prompt: str) -> None:
    expected = theirs(place, shots, prompt == "chat")
    table = spillover.load(ran).to_pandas()
    compared = 0
    for test in usertasks.TASKS:
        ours = {row["doc_id"]: row for row in rows_of(ran, test, shots, prompt)}
        for sample in expected["samples"][test]:
            own = ours[sample["doc_id"]]
            for mine, other in zip(own["responses"], [responses[0] for responses in sample["resps"]], strict=True):
                if isinstance(other, tuple):
                    assert (mine[0], mine[1]) == (pytest.approx(other[0], abs=1e-4), other[1])
                else:
                    assert mine == (other if isinstance(other, str) else pytest.approx(other, abs=1e-4))
            for metric in sample["metrics"]:
                mine = own["scores"][f"{metric},{sample['filter']}"]
                assert_alike(mine, sample[metric])
                compared += 1
        of_test = table[(table.test_dataset == test) & (table.shots == shots) & (table.prompt == prompt)]
        values = dict(zip(of_test.metric, of_test.value, strict=True))
        for name, value in expected["results"][test].items():
            if isinstance(value, float) and "stderr" not in name:
                # a perplexity is the exponential of what may differ by 1e-4
                assert values[name] == pytest.approx(value, abs=1e-4, rel=1e-4), (test, name)
    assert compared > 100


def assert_alike(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, (tuple, list)) or getattr(theirs, "ndim", 0):
        for one, other in zip(ours, theirs, strict=True):
            assert_alike(one, other)
    elif isinstance(theirs, float) and math.isnan(theirs):
        assert ours is None
    else:
        assert ours == (pytest.approx(float(theirs), abs=1e-4) if not isinstance(theirs, str) else theirs)
