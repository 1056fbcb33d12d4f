"""The model `spillover` of lm-evaluation-harness: its tasks, prompts and results, answered by our engine.

    spillover lm-eval run --model spillover --model_args pretrained=DIR,peft=DIR,dtype=float32 --tasks arc_easy

Whatever the harness asks is answered on the token ids that its own Hugging Face model would use (`text.pairs`), and the
engine computes every prefix that its requests share once. `FOLLOWED` are the arguments of that model which mean the
same here; `SPEED` are those that only decide how it computes, and are accepted without effect. Every other argument is
refused, and so is sampling: an answer here is always the greedy one.

lm-evaluation-harness is imported here, so this module is imported only where it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    DEFAULT_MAX_LENGTH,
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resolve_max_length,
)
from tqdm import tqdm

from .. import models
from ..engine import hf
from ..engine.either import EitherEngine
from ..engine.port import Answer
from ..errors import ModelError, PromptError, SpilloverError, did_you_mean
from ..models.names import local_folder
from ..text.encode import Encoder
from ..text.pairs import Pair, PairEncoder
from ..text.request import Request, StopRule
from ..text.settings import NO_LIMIT, Settings

FOLLOWED = ["pretrained", "peft", "tokenizer", "revision", "dtype", "device", "max_length", "trust_remote_code"]
FOLLOWED += ["add_bos_token", "prefix_token_id", "chat_template_args", "enable_thinking", "think_end_token", "engine"]
SPEED = ["batch_size", "max_batch_size", "logits_cache", "use_fast_tokenizer", "parallelize"]
GREEDY = {"do_sample": (False,), "num_beams": (1,), "repetition_penalty": (1.0,), "no_repeat_ngram_size": (0,)}
"""Settings of generation that change an answer, and the values with which they do not."""
WITHOUT_EFFECT = ("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "use_cache")  # of a greedy answer
MOST_TOKENS = 256  # that are generated unless a task says otherwise, as in the harness's own models

logger = logging.getLogger("lm_eval.models.spillover")


class HarnessModel(TemplateLM):
    """Answers lm-evaluation-harness's requests with the engine of a local or downloaded model."""

    def __init__(
        self,
        pretrained: str | Path = "",
        peft: str | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        max_length: int | None = None,
        trust_remote_code: bool | None = False,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        chat_template_args: dict[str, Any] | None = None,
        enable_thinking: bool | None = None,
        think_end_token: str | int | None = None,
        engine: str = "shared",
        **others: Any,
    ) -> None:
        super().__init__()
        _refuse_unknown(others)
        if not pretrained:
            raise ModelError("no model is given", where="--model_args", allowed="pretrained=<hub id or folder>")
        if enable_thinking and think_end_token is None:
            raise SpilloverError("think_end_token is missing", where="--model_args enable_thinking")
        self.pretrained, self.peft, self.revision = str(pretrained), peft, revision
        self.batch_size = others.get("batch_size", 1)
        self.enable_thinking = enable_thinking
        number = isinstance(think_end_token, str) and think_end_token.isdigit()
        self.think_end = int(think_end_token) if number else think_end_token  # type: ignore[arg-type]
        trust = bool(trust_remote_code)
        named = self.pretrained if local_folder(self.pretrained, Path()) else _with_revision(self.pretrained, revision)
        self.source = models.resolve(named, progress=logger.info, trust=trust)
        if models.is_adapter(self.source.folder):
            raise ModelError("is an adapter", where=f"pretrained={pretrained}", allowed="pretrained=<base>,peft=<it>")
        adapter = models.resolve(peft, progress=logger.info).folder if peft else None
        if adapter is not None and not models.is_adapter(adapter):
            raise ModelError("is no adapter", where=f"peft={peft}", allowed="a folder with adapter_config.json")
        kwargs = dict(chat_template_args or {})
        kwargs |= {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        self.tokenizer_name_or_path = tokenizer or self.pretrained
        folder = models.tokenizer_folder(tokenizer) if tokenizer else self.source.folder
        self.encoder = Encoder.load(folder, kwargs)
        self.tokenizer = _special_tokens(folder, self.encoder)
        self.pairs = PairEncoder(self.encoder, add_bos_token, prefix_token_id)
        precision = _precision(dtype, self.source.folder)
        on = _device(device)
        model = hf.load_model(self.source.folder, precision, adapter, trust, on=on)
        stated = self.encoder.max_context
        default = DEFAULT_MAX_LENGTH if stated == NO_LIMIT else stated
        self.max_length = int(max_length or resolve_max_length(model.config, default=default))
        self.dtype, self._device = precision, model.device
        self.rows = len(model.get_input_embeddings().weight)
        self.parameters = sum(weight.numel() for weight in model.parameters())
        self.engine = EitherEngine(model, self.encoder, self._ends(model.generation_config), engine == "shared")
        logger.info("spillover computes in %s on %s", precision, model.device)

    # --- what the harness asks ----------------------------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        return self.encoder.eos_id

    @property
    def prefix_token_id(self) -> int:
        return self.pairs.prefix_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        encoded = self.pairs.bare if add_special_tokens is False else self.pairs.ids
        return list(encoded([string])[0])

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-probability of each continuation after its context, and whether it is the greedy one."""
        if self.enable_thinking:
            raise SpilloverError("tasks that score texts cannot be asked", where="--model_args enable_thinking=True")
        texts = [request.args for request in requests]
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(texts)
        for number, answer in self._scored(self.pairs.pairs(texts), "loglikelihood", disable_tqdm):
            answers[number] = answer
            self.cache_hook.add_partial("loglikelihood", texts[number], answer)
        return answers

    def _loglikelihood_tokens(self, requests: Sequence[Any], disable_tqdm: bool = False, **_: Any) -> Any:
        pairs = [Pair(tuple(context), tuple(continuation)) for _, context, continuation in requests]
        return [answer for _, answer in sorted(self._scored(pairs, "loglikelihood", disable_tqdm))]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of each whole text, in windows that are as long as the model reads."""
        texts = [request.args[0] for request in requests]
        windows = self.pairs.rolling(texts, self.max_length)
        owners = [number for number, some in enumerate(windows) for _ in some]
        totals = [0.0] * len(texts)
        pairs = [pair for some in windows for pair in some]
        for _, (number, (logprob, _)) in sorted(
            (at, (owners[at], answer)) for at, answer in self._scored(pairs, "loglikelihood_rolling", disable_tqdm)
        ):
            totals[number] += logprob
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The greedy text after each context, up to the first of its stop strings."""
        texts = [""] * len(requests)
        groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(self._generation(request.args[1]), []).append(number)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests") as bar:
            for (until, most), numbers in groups.items():
                contexts = self._contexts([requests[number].args[0] for number in numbers], most)
                asked = [Request(context, (), most) for context in contexts]
                for at, answer in self.engine.run(asked, self._stop(until)):
                    number = numbers[at]
                    texts[number] = self._written(answer, until)
                    self.cache_hook.add_partial("generate_until", requests[number].args, texts[number])
                    bar.update()
        return texts

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The prompt of a conversation; without `add_generation_prompt` it ends in the last message, to be continued.

        As in the harness's own model, a template that fails is tried without the system message.
        """
        template = self.encoder.chat_template
        if template is None:
            raise ModelError("has no chat template", where=self.tokenizer_name_or_path, allowed="a model that has one")
        text, without_system = template.asked(chat_history, add_generation_prompt)
        if without_system:
            logger.warning("the chat template fails on a system message, which is left out")
        return text

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The source of the chat template, if one is to be applied."""
        if not chat_template:
            return None
        if chat_template not in (True, "default"):
            raise SpilloverError("no template of that name", where=f"--apply_chat_template {chat_template}")
        return None if self.encoder.chat_template is None else self.encoder.chat_template.source

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer_name_or_path.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into its results about the model."""
        info = {
            "model_num_parameters": self.parameters,
            "model_dtype": f"torch.{self.dtype}",
            "model_revision": self.revision or "main",
            "model_sha": str(self.source.identity.get("commit", "")),
        }
        return info | ({"peft_sha": ""} if self.peft else {})

    # --- how it is answered -------------------------------------------------------------------------------------------

    def _scored(self, pairs: Sequence[Pair], what: str, quiet: bool) -> Iterator[tuple[int, tuple[float, bool]]]:
        """(number of the pair, its answer). Pairs with one context are one request, equal pairs are computed once."""
        short = [pair.shortened(self.max_length) for pair in pairs]
        self._tell_shortened(sum(one != pair for one, pair in zip(short, pairs, strict=True)), len(pairs))
        askers: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
        for number, (context, continuation) in enumerate(short):
            askers.setdefault(context, {}).setdefault(continuation, []).append(number)
        asked = [Request(context, tuple(options)) for context, options in askers.items()]
        numbers = [list(options.values()) for options in askers.values()]
        self._refuse_beyond(asked)
        with tqdm(total=len(pairs), disable=quiet, desc=f"Running {what} requests") as bar:
            for at, answer in self.engine.run(asked, lambda ids: True):
                for option, logprobs, greedy in zip(numbers[at], answer.logprobs, answer.greedy, strict=True):
                    for number in option:
                        yield number, (sum(logprobs), greedy)
                        bar.update()

    def _contexts(self, contexts: Sequence[str], most: int) -> list[tuple[int, ...]]:
        room = self.max_length - most
        if room < 1:
            what = f"up to {most:,} tokens are to be generated, and the model reads {self.max_length:,}"
            raise PromptError(what, where="max_gen_toks", allowed=f"fewer than {self.max_length:,}")
        whole = self.pairs.prompts(contexts, self.max_length)
        asked = [ids[-room:] for ids in whole]
        self._tell_shortened(sum(len(ids) > room for ids in whole), len(whole))
        self._refuse_beyond([Request(ids) for ids in asked])
        return asked

    def _generation(self, asked: Any) -> tuple[tuple[str, ...], int]:
        """The stop strings of a request and how many tokens it may generate. Raises SpilloverError for sampling."""
        settings: dict[str, Any] = dict(normalize_gen_kwargs(asked, MOST_TOKENS))
        eos = self.encoder.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)
        until = handle_stop_sequences(settings.pop("until", None), eos=eos)
        most = settings.pop("max_gen_toks")
        for name, value in settings.items():
            if name in GREEDY and value not in GREEDY[name]:
                allowed = f"{GREEDY[name][0]}: answers here are greedy; --model hf samples"
                raise SpilloverError(f"{value!r} is not supported", where=f"generation_kwargs {name}", allowed=allowed)
            if name not in GREEDY and name not in WITHOUT_EFFECT:
                allowed = ", ".join(["until", "max_gen_toks", *GREEDY, *WITHOUT_EFFECT])
                raise SpilloverError("is not supported", where=f"generation_kwargs {name}", allowed=allowed)
        return tuple(until), most

    def _stop(self, until: Sequence[str]) -> StopRule:
        """Stops once one of the strings is in the last tokens: those of the longest of them, and two more."""
        tokenizer = self.encoder.tokenizer
        window = 2 + max(len(ids) for ids in self.pairs.bare(until))

        def stops(ids: Sequence[int]) -> bool:
            text = tokenizer.decode(list(ids[-window:]), skip_special_tokens=False)
            return any(one in text for one in until)

        return stops

    def _written(self, answer: Answer, until: Sequence[str]) -> str:
        ids = list(answer.generated or ())
        if isinstance(self.think_end, int) and self.think_end in ids:
            ids = ids[len(ids) - ids[::-1].index(self.think_end) :]
            text = self.encoder.decode(ids).lstrip()
        else:
            text = self.encoder.decode(ids)
        think = self.think_end if isinstance(self.think_end, str) else None
        cut: str = postprocess_generated_text(text, list(until), think)
        return cut

    def _ends(self, generation: Any) -> frozenset[int]:
        """The tokens that end a generation in transformers: those of the model's settings, and the tokenizer's."""
        stated = getattr(generation, "eos_token_id", None)
        listed = stated if isinstance(stated, list) else [stated]
        for name, allowed in GREEDY.items():
            value = getattr(generation, name, None)
            if name not in ("do_sample", "num_beams") and value not in (None, *allowed):
                logger.warning("generation_config.json: %s is %s, which hf follows and spillover does not", name, value)
        return frozenset([self.eot_token_id, *(one for one in listed if one is not None)])

    def _refuse_beyond(self, asked: Sequence[Request]) -> None:
        most = max((max(ids) for one in asked for ids in (one.prompt, *one.options)), default=0)
        if most >= self.rows:
            token = f"token {self.encoder.tokenizer.id_to_token(most)!r} has the id {most:,}"
            what = f"{token}, and the model has embeddings for {self.rows:,} tokens"
            raise PromptError(what, where=self.tokenizer_name_or_path)

    def _tell_shortened(self, count: int, of: int) -> None:
        if count:
            what = "%d of %d texts are longer than the %d tokens of the model; they lose tokens from the left"
            logger.warning(what, count, of, self.max_length)


def _refuse_unknown(others: dict[str, Any]) -> None:
    unknown = sorted(others.keys() - {*SPEED})
    if unknown:
        allowed = f"{did_you_mean(unknown[0], FOLLOWED)}; --model hf has others"
        raise SpilloverError("is not supported", where=f"--model_args {unknown[0]}", allowed=allowed)


def _with_revision(spec: str, revision: str | None) -> str:
    plain = revision in (None, "main") or "@" in spec or spec.startswith("pypi:")
    return spec if plain else f"{spec}@{revision}"


def _special_tokens(folder: Path, encoder: Encoder) -> SimpleNamespace:
    """What the harness writes into its results about a tokenizer: its special tokens, padding as it chooses it."""
    stated = Settings(folder, encoder.tokenizer).special_tokens
    eos = encoder.tokenizer.id_to_token(encoder.eos_id)
    named = {"bos": stated.get("bos_token"), "eos": eos}
    named["pad"] = stated.get("pad_token") or stated.get("unk_token") or eos
    tokens = {f"{role}_token": token for role, token in named.items()}
    ids = {f"{role}_token_id": token and encoder.tokenizer.token_to_id(token) for role, token in named.items()}
    return SimpleNamespace(**tokens, **ids)


def _precision(dtype: str, folder: Path) -> hf.Precision:
    """float32 or bfloat16, as asked. `auto`: as the checkpoint is stored, but float32 where bfloat16 is not faster."""
    name = str(dtype).removeprefix("torch.")
    if name == "auto":
        import json

        config = json.loads((folder / "config.json").read_text("utf-8"))
        parts = (config, config.get("text_config") or {})
        halves = {part.get(key) for part in parts for key in ("dtype", "torch_dtype")} & {"bfloat16", "float16"}
        return hf.resolve_precision("auto") if halves else "float32"
    if name not in ("float32", "bfloat16"):
        raise SpilloverError(
            f"{name!r} is not supported", where="--model_args dtype", allowed="float32, bfloat16, auto"
        )
    return name  # type: ignore[return-value]


def _device(asked: str | None) -> str | None:
    """The device to load on; None for the one that there is. The harness asks for a GPU even where there is none."""
    name = asked and str(asked)
    if name and name not in ("cpu", "cuda") and not name.removeprefix("cuda:").isdigit():
        raise SpilloverError(f"unknown device {name!r}", where="--device", allowed="cpu, cuda, cuda:0, cuda:1")
    return None if hf.device().type == "cpu" else name or None
