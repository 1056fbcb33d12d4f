"""How the models will be used once one is chosen, and what it must keep: what the verdict goes by.

Nothing here changes what is trained or asked. So these keys may be changed after a run: the next `spillover run`
computes nothing and judges again.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .fields import MOST_SHOTS, NUMBER, Strict

Shot = Annotated[int, Field(ge=0, le=MOST_SHOTS), NUMBER]
Share = Annotated[float, Field(gt=0, le=1), NUMBER]


class UseSpec(Strict):
    """How the base, or the variants, will be asked, where that differs from the other side."""

    shots: Shot | None = Field(None, description="demonstrations; default: that of deploy")
    prompt: str | None = Field(None, description="prompt format; default: that of deploy")


class DeploySpec(Strict):
    """How the trained task will be asked: `{shots: 0, prompt: p1}`, or different for base and variant."""

    shots: Shot | None = Field(None, description="demonstrations; default: the only number that is tested")
    prompt: str | None = Field(None, description="prompt format; default: train.prompt")
    base: UseSpec = Field(UseSpec(), description="the base, where it will be asked otherwise")
    variant: UseSpec = Field(UseSpec(), description="the variants, where they will be asked otherwise")


class ShipSpec(Strict):
    """What a variant must keep to be shipped."""

    keep: Share | None = Field(
        None, description="the share of the base's score that must be left outside; default: no loss beyond chance"
    )
