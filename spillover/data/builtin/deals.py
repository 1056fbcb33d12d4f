"""How rows of paraphrase detection and question generation are written: both are made from one kind of fact, the deal.

A deal has an agent and a partner who can change places, a number, a place and a time. So two sentences with the same
words can differ in meaning, two with different words can agree, and each deal has six questions. See `rows.py` for
styles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from .rows import TEMPLATES, Row, Style, other, sentence
from .words import DealVerb, DealWords


def _bare(phrase: str) -> str:
    """`on Monday` without its preposition."""
    return phrase.split(" ", 1)[1]


@dataclass(frozen=True, slots=True)
class Deal:
    """Who did what with how many things to, from or for whom, where and when, or did not."""

    agent: str
    partner: str
    verb: DealVerb
    number: str
    things: str
    place: str
    time: str
    negated: bool = False


def _deals(rng: Random, words: DealWords, count: int, negated_share: float = 0.0) -> list[Deal]:
    """Deals in which no person and no thing occurs twice."""
    parties = rng.sample(words.parties, 2 * count)
    things = rng.sample(words.things, count)
    return [
        Deal(
            agent=parties[2 * i],
            partner=parties[2 * i + 1],
            verb=rng.choice(words.verbs),
            number=rng.choice(words.numbers),
            things=f"{rng.choice(words.adjectives)} {things[i]}",
            place=rng.choice(words.places),
            time=rng.choice(words.times),
            negated=rng.random() < negated_share,
        )
        for i in range(count)
    ]


FORMS: dict[str, str] = TEMPLATES["deal"]


def _tell(deal: Deal, form: str = "active", synonym: bool = False) -> str:
    """A deal as one sentence. The forms differ in the order of the facts; `synonym` takes the other verb."""
    verb = deal.verb.second if synonym else deal.verb.first
    done = f"did not {verb.base}" if deal.negated else verb.past
    been = f"were not {verb.participle}" if deal.negated else f"were {verb.participle}"
    facts = {"agent": deal.agent, "done": done, "been": been, "place": deal.place, "time": deal.time}
    facts |= {"things": f"{deal.number} {deal.things}", "partner": f"{deal.verb.preposition} {deal.partner}"}
    return sentence(FORMS[form].format(**facts))


def _ledger(deal: Deal, synonym: bool = False) -> list[str]:
    """The columns of a line in a ledger. Only the partner has a preposition, so the columns can stand in any order."""
    verb = deal.verb.second if synonym else deal.verb.first
    return [
        _bare(deal.time),
        deal.place,
        deal.agent,
        f"not {verb.base}" if deal.negated else verb.base,
        f"{deal.number} {deal.things}",
        f"{deal.verb.preposition} {deal.partner}",
    ]


def _changed(rng: Random, words: DealWords, deal: Deal) -> Deal:
    """A deal that differs in one fact."""
    match rng.choice(("roles", "roles", "polarity", "number", "place", "time")):
        case "roles":
            return replace(deal, agent=deal.partner, partner=deal.agent)
        case "polarity":
            return replace(deal, negated=not deal.negated)
        case "number":
            return replace(deal, number=other(rng, words.numbers, deal.number))
        case "place":
            return replace(deal, place=other(rng, words.places, deal.place))
        case _:
            return replace(deal, time=other(rng, words.times, deal.time))


def paraphrase(rng: Random, words: DealWords, style: Style, label: str) -> Row:
    """Two reports of the same deals, reordered and partly with other verbs. For the label "no", one fact differs."""
    deals = _deals(rng, words, 3 if style == "long" else 1, negated_share=0.3)
    retold = list(deals)
    if label == "no":
        which = rng.randrange(len(deals))
        retold[which] = _changed(rng, words, deals[which])
    accounts: list[tuple[str, str]] = []
    for deal, again in zip(deals, retold, strict=True):
        form, other_form = rng.sample(list(FORMS), 2)
        synonym = rng.random() < 0.5
        entries = _ledger(again, synonym)
        if style == "record":
            rng.shuffle(entries)
        second = "; ".join(entries) if style == "record" else _tell(again, other_form, synonym)
        accounts.append((_tell(deal, form), second))
    first = " ".join(account for account, _ in accounts)
    rng.shuffle(accounts)
    return {"input_1": first, "input_2": " ".join(account for _, account in accounts)}, label


def question(rng: Random, words: DealWords, style: Style) -> Row:
    """Two deals, one fact of one of them as the answer, and the question that it answers."""
    deals = _deals(rng, words, 2)
    asked = rng.choice(deals)
    if style == "record":
        context = "\n".join(" | ".join(_ledger(deal)) for deal in deals)
    else:
        told = deals + (_undone(rng, words, deals, 4) if style == "long" else [])
        rng.shuffle(told)
        context = " ".join(_tell(deal, rng.choice(("active", "passive", "time_first"))) for deal in told)
    answer, text = rng.choice(_questions(asked))
    return {"input": context, "answer": answer}, text


def _undone(rng: Random, words: DealWords, deals: Sequence[Deal], count: int) -> list[Deal]:
    """Deals among other people that did not happen. They answer no question about `deals`."""
    taken = {party for deal in deals for party in (deal.agent, deal.partner)}
    others = words.model_copy(update={"parties": [party for party in words.parties if party not in taken]})
    return [replace(_deals(rng, others, 1)[0], negated=True) for _ in range(count)]


def _questions(deal: Deal) -> list[tuple[str, str]]:
    verb, counted, partner = deal.verb.first, f"{deal.number} {deal.things}", f"{deal.verb.preposition} {deal.partner}"
    deed = f"did {deal.agent} {verb.base}"
    return [
        (deal.agent, f"Who {verb.past} {counted} {partner}?"),
        (deal.partner, f"Who {deed} {counted} {deal.verb.preposition}?"),
        (deal.number, f"How many {deal.things} {deed} {partner}?"),
        (counted, f"What {deed} {partner} in {deal.place}?"),
        (deal.place, f"Where {deed} {counted}?"),
        (_bare(deal.time), f"When {deed} {counted}?"),
    ]
