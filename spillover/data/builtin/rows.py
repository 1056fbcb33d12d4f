"""How one row of a builtin data set is written: one function for each task, with three styles each.

    plain    short English sentences, as in the source domain
    record   the same facts as a form, a ledger or an interview: another text format of about the same length
    long     the plain sentences, about three times as many

The label of a row decides only which facts go together, never how many there are or which template writes them: only
the meaning of a row tells its label. Sentences are in `templates.yaml`. Paraphrase detection and question generation
are in `deals.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from ...experiment.dialect import shipped
from .words import NewsWords, ReviewWords, SceneWords

TEMPLATES = shipped(__package__, "templates.yaml")

Style = Literal["plain", "record", "long"]
Row = tuple[dict[str, str], str]
"""Fields and target."""


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def a(noun_phrase: str) -> str:
    """With its indefinite article."""
    return ("an " if noun_phrase[0] in "aeiou" else "a ") + noun_phrase


def other(rng: Random, options: Sequence[str], than: str) -> str:
    return rng.choice([option for option in options if option != than])


def review(rng: Random, words: ReviewWords, style: Style, label: str) -> Row:
    """All adjectives have the row's label; one of the other label occurs only as what others believed or expected."""
    verdicts, opposite = (words.good, words.bad) if label == "positive" else (words.bad, words.good)
    thing = rng.choice(words.things)
    if style == "record":
        return {"input": _review_form(rng, words, thing, verdicts, opposite)}, label
    blocks = 3 if style == "long" else 1
    sentences: list[str] = []
    for block in range(blocks):
        parts, adjectives = rng.sample(words.parts, 2), rng.sample(verdicts, 3)
        details = f"the {parts[0]} is {adjectives[1]} and the {parts[1]} is {adjectives[2]}"
        subject = f"this {thing}" if block == 0 else f"the {thing}"
        if rng.random() < 0.5:
            about = [_verdict(rng, subject, adjectives[0], rng.choice(opposite)), _occasion(rng, words, "it")]
        else:
            about = [_occasion(rng, words, subject), _verdict(rng, "it", adjectives[0], rng.choice(opposite))]
        about.insert(rng.randint(0, 2), details)
        sentences += about
    return {"input": " ".join(map(sentence, sentences))}, label


def _verdict(rng: Random, subject: str, adjective: str, opposite: str) -> str:
    return rng.choice(TEMPLATES["verdict"]).format(subject=subject, adjective=adjective, opposite=opposite)


def _occasion(rng: Random, words: ReviewWords, subject: str) -> str:
    person, time = rng.choice(words.people), rng.choice(words.times)
    return rng.choice(TEMPLATES["occasion"]).format(subject=subject, person=person, time=time)


def _review_form(rng: Random, words: ReviewWords, thing: str, verdicts: Sequence[str], opposite: Sequence[str]) -> str:
    parts, adjectives = rng.sample(words.parts, 3), rng.sample(verdicts, 3)
    lines = [f"{part}: {adjective}" for part, adjective in zip(parts, adjectives, strict=True)]
    lines += [f"told by: {rng.choice(words.people)}", f"tried in: {rng.choice(words.times)}"]
    if rng.random() < 1 / 3:
        lines.append(f"expected: {rng.choice(opposite)}")
    rng.shuffle(lines)
    return "\n".join([f"item: {thing}", f"overall: {rng.choice(verdicts)}", *lines]).lower()


DETAILS = ("mood", "colour", "quality", "place", "companion")
Scene = Mapping[str, str]


def _scenes(rng: Random, words: SceneWords, count: int) -> list[dict[str, str]]:
    """Scenes with different beings. A verb, mood or quality is either word of a pair of opposites."""
    return [
        {
            "being": being,
            "kind": kind,
            "mood": rng.choice(rng.choice(words.moods)),
            "colour": rng.choice(words.colours),
            "wear": rng.choice(words.wears),
            "verb": rng.choice(rng.choice(words.verbs)),
            "quality": rng.choice(rng.choice(words.qualities)),
            "place": rng.choice(words.places),
            "companion": rng.choice(words.companions),
        }
        | dict(zip(("object", "object_kind"), rng.choice(words.objects), strict=True))
        for being, kind in rng.sample(words.beings, count)
    ]


def _opposite(pairs: Sequence[tuple[str, str]], word: str) -> str:
    return next(b if a == word else a for a, b in pairs if word in (a, b))


def _describe(words: SceneWords, scene: Scene, details: Sequence[str], negated: bool = False) -> str:
    being = f"{scene['mood']} {scene['being']}" if "mood" in details else scene["being"]
    thing = f"{scene['quality']} {scene['object']}" if "quality" in details else scene["object"]
    text = a(being)
    if "colour" in details:
        text += f" {words.link} {a(scene['colour'] + ' ' + scene['wear'])}"
    text += f" is {'not ' if negated else ''}{scene['verb']} {a(thing)}"
    if "place" in details:
        text += f" near the {scene['place']}"
    if "companion" in details:
        text += f" beside {a(scene['companion'])}"
    return sentence(text)


def _scene_form(scene: Scene, details: Sequence[str]) -> str:
    entries = [scene["being"]]
    if "mood" in details:
        entries.append(scene["mood"])
    if "colour" in details:
        entries.append(f"{scene['colour']} {scene['wear']}")
    entries.append(f"{scene['verb']}: {scene['object']}" + (f", {scene['quality']}" if "quality" in details else ""))
    if "place" in details:
        entries.append(f"near: {scene['place']}")
    if "companion" in details:
        entries.append(f"beside: {scene['companion']}")
    return " / ".join(entries)


def inference(rng: Random, words: SceneWords, style: Style, label: str) -> Row:
    """A premise that states three details of a scene, a hypothesis that states two.

    Entailment: both are among the three, and names may be more general. Neutral: one is not among them.
    Contradiction: one fact is turned into its opposite. Each label also occurs negated, so "not" alone tells nothing.
    """
    scenes = _scenes(rng, words, 4 if style == "long" else 1)
    stated = [rng.sample(DETAILS, 3) for _ in scenes]
    if style == "record":
        premise = _scene_form(scenes[0], stated[0])
    else:
        premise = " ".join(_describe(words, scene, details) for scene, details in zip(scenes, stated, strict=True))
    which = rng.randrange(len(scenes))
    claim, details = dict(scenes[which]), rng.sample(stated[which], 2)
    negated = rng.random() < 0.2
    if label == "neutral":
        details[0] = rng.choice([detail for detail in DETAILS if detail not in stated[which]])
    elif negated == (label == "entailment"):
        # Not doing the opposite follows from doing; doing the opposite contradicts it.
        _turn(rng, words, claim, () if negated else details)
    if rng.random() < 0.5:
        claim["being"] = claim["kind"]
    if rng.random() < 0.5:
        claim["object"] = claim["object_kind"]
    return {"input_1": premise, "input_2": _describe(words, claim, details, negated)}, label


def _turn(rng: Random, words: SceneWords, claim: dict[str, str], details: Sequence[str]) -> None:
    """Replace the verb, or one of the details that have an opposite, by its opposite."""
    pairs = {"verb": words.verbs, "mood": words.moods, "quality": words.qualities}
    turned = rng.choice(["verb", *(detail for detail in details if detail == "colour" or detail in pairs)])
    old = claim[turned]
    claim[turned] = _opposite(pairs[turned], old) if turned in pairs else other(rng, words.colours, old)


def news(rng: Random, words: NewsWords, style: Style) -> Row:
    """An item of three sentences: cause, act, reaction. The summary keeps who, where, what and why."""
    group, place, cause = rng.choice(words.groups), rng.choice(words.places), rng.choice(words.causes)
    verb, number, things = rng.choice(words.verbs), rng.choice(words.numbers), rng.choice(words.things)
    time, people, feeling = rng.choice(words.times), rng.choice(words.people), rng.choice(words.feelings)
    counted = f"{number} {rng.choice(words.adjectives)} {things}"
    target = f"The {group} in {place} {verb.past} {number} {things} after the {cause}."
    if style == "record":
        lines = [
            f"What hit {place}? {sentence(f'{a(cause)}, {time}')}",
            f"What did the {group} do? They {verb.past} {counted}.",
            f"What of the {people}? They were {feeling} about it.",
        ]
        return {"input": "\n".join(lines)}, target
    facts = {"place": place, "time": time, "cause": a(cause), "group": group, "did": f"{verb.past} {counted}"}
    opening = [text.format(**facts) for text in rng.choice(TEMPLATES["opening"])]
    sentences = [*opening, f"the {people} told us that they were {feeling} about it"]
    if style == "long":
        sentences += _asides(rng, words, place, group, 5)
    return {"input": " ".join(map(sentence, sentences))}, target


def _asides(rng: Random, words: NewsWords, place: str, group: str, count: int) -> list[str]:
    """Sentences that a summary leaves out."""
    asides = []
    for _ in range(count):
        elsewhere, other_group = other(rng, words.places, place), other(rng, words.groups, group)
        facts = {
            "place": elsewhere,
            "group": other_group,
            "verb": rng.choice(words.verbs).base,
            "things": rng.choice(words.things),
            "people": rng.choice(words.people),
            "feeling": rng.choice(words.feelings),
            "cause": rng.choice(words.causes),
        }
        asides.append(rng.choice(TEMPLATES["aside"]).format(**facts))
    return asides
