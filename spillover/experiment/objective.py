"""The values of the axes `loss` and `penalty`: what is minimised in training.

The first value of each is the one of plain fine-tuning. `train.losses` computes them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .axis import Axis
from .fields import Amounts, Count, Name, Rate

# --- loss: what an answer token counts ------------------------------------------------------------------
# NLL_t is the negative log-likelihood of answer token t, p_t its probability. Factors carry no gradient.


class EveryToken(Axis):
    """The sum of NLL_t, divided by the answer tokens of the step."""

    kind: Literal["nll"] = "nll"


class Likelihood(Axis):
    """p_t times NLL_t: tokens that the model finds unlikely count little. Divided by the answer tokens."""

    kind: Literal["likelihood"] = "likelihood"


class SelectedTokens(Axis):
    """No loss on tokens whose perplexity under the base exceeds a limit. Divided by the tokens that have loss."""

    kind: Literal["selected"] = "selected"
    most_perplexity: Rate = Field(2.5, description="exp(NLL) under the base, beyond which a token has no loss")


class EasyTokens(Axis):
    """Weights proportional to exp(-NLL_t / tau), divided by their sum."""

    kind: Literal["easy_tokens"] = "easy_tokens"
    token_tau: Literal["median"] | Rate = Field("median", description="nats; median: of the step's NLL_t")


class EasyRows(Axis):
    """Row weights proportional to exp(-base's loss of the row / tau), divided by their sum over the answer tokens.

    The loss of a row is the mean over its answer tokens.
    """

    kind: Literal["easy_rows"] = "easy_rows"
    row_tau: Literal["median"] | Rate = Field("median", description="nats; median: of the base's losses of the rows")


class Entropy(Axis):
    """NLL_t times the entropy of the top tokens, divided by its largest value. Divided by the answer tokens.

    The top tokens' probabilities are made to sum to 1, so that the factor is between 0 and 1.
    """

    kind: Literal["entropy"] = "entropy"
    entropy_top: Annotated[Count, Field(ge=2)] = Field(20, description="tokens whose entropy is taken")


class PythonLoss(Axis):
    """A function of one's own that gives each answer token its loss. Divided by the answer tokens.

    It gets a `spillover.train.losses.Tokens` and returns a tensor of one number for each token. A step may be cut into
    several passes, so a token's loss must not depend on the others. The text of its file is in the key.
    """

    kind: Literal["python"] = "python"
    function: Name = Field("", description="file.py:function, module:function, or a name that was registered")
    asks_base: bool = Field(False, description="it is given the base's NLL of each token too: one pass of the base")


# --- penalty: what keeps the model near its base --------------------------------------------------------


class NoPenalty(Axis):
    """Nothing."""

    kind: Literal["none"] = "none"


class KlToBase(Axis):
    """beta times KL(base || model) at the answer positions, over the full vocabulary, as a mean over answer tokens."""

    kind: Literal["kl"] = "kl"
    LISTS: ClassVar = ("beta",)
    beta: Annotated[Amounts, Field(min_length=1)] = Field((0.1,), description="weight of the divergence; or a list")


class KlOnTexts(Axis):
    """beta times KL(base || model) on the base's own texts, over the full vocabulary, as a mean over their tokens.

    The rows have no penalty. It needs the texts of `data: own_text`.
    """

    kind: Literal["kl_texts"] = "kl_texts"
    LISTS: ClassVar = ("text_beta",)
    text_beta: Annotated[Amounts, Field(min_length=1)] = Field(
        (1.0,), description="weight of the divergence on the base's own texts; or a list"
    )


class DistanceToBase(Axis):
    """w / 2 times the squared distance of the weights to the base's."""

    kind: Literal["l2sp"] = "l2sp"
    LISTS: ClassVar = ("l2sp_weight",)
    l2sp_weight: Annotated[Amounts, Field(min_length=1)] = Field((0.01,), description="weight; or a list")
