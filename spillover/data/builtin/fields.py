"""The word material of the builtin data sets, already split into train, test and demonstrations.

A model that learnt from the training rows must not meet their words again in the test rows, or a score
shows memory where it should show a skill. So every list of content words (nouns, names, verbs, adjectives,
numbers) stands here three times, once for each part, and no word or its plain inflection stands in two parts,
whatever the field; `tests/data/test_builtin.py` sees to it.

Two fields for each task: one to train on, and one from which a data set that shifts vocabulary takes its words.
No training set is made from the second, so it has words for tests and demonstrations alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .words import (
    DealWords,
    NewsWords,
    Part,
    ReviewWords,
    SceneWords,
    deal_verbs,
    pairs,
    phrases,
    verbs,
    words,
)

SHOP: Mapping[Part, ReviewWords] = {
    "train": ReviewWords(
        things=words("kettle laptop toaster camera backpack phone bicycle lantern freezer"),
        parts=words("handle design packaging cover manual quality sound display"),
        good=words("excellent wonderful superb reliable comfortable elegant impressive delightful lovely outstanding"),
        bad=words("terrible awful useless flimsy ugly disappointing annoying defective clumsy miserable"),
        people=words("brother mother wife son grandmother"),
        times=words("January February March April"),
    ),
    "test": ReviewWords(
        things=words("blender printer keyboard microwave umbrella headset razor"),
        parts=words("finish weight casing cable performance texture price"),
        good=words("great fantastic perfect amazing brilliant beautiful marvellous splendid"),
        bad=words("bad horrible dreadful poor worthless faulty shoddy nasty"),
        people=words("uncle neighbour niece flatmate"),
        times=words("June July August September"),
    ),
    "demos": ReviewWords(
        things=words("router mixer wallet"),
        parts=words("shape lining logo"),
        good=words("good nice terrific"),
        bad=words("lousy pathetic appalling"),
        people=words("cousin nephew"),
        times=words("October November"),
    ),
}

TRAVEL: Mapping[Part, ReviewWords] = {
    "test": ReviewWords(
        things=words("hotel beach resort restaurant campsite spa casino"),
        parts=words("lobby terrace bar pool balcony reception sauna"),
        good=words("charming welcoming relaxing stunning peaceful spotless cosy enchanting"),
        bad=words("dirty smelly overcrowded gloomy hostile unsafe depressing overpriced"),
        people=words("guide roommate girlfriend boss"),
        times=words("spring summer autumn"),
    ),
    "demos": ReviewWords(
        things=words("inn cruise vineyard"),
        parts=words("bathroom cellar deck"),
        good=words("tranquil idyllic heavenly"),
        bad=words("filthy shabby dingy"),
        people=words("husband colleague"),
        times=words("winter December"),
    ),
}

TRADE: Mapping[Part, DealWords] = {
    "train": DealWords(
        parties=phrases(
            "the baker, the farmer, the teacher, the painter, the driver, the waiter, the plumber, the singer"
        ),
        verbs=deal_verbs(
            """
            buy bought bought | purchase | from
            send sent sent | mail | to
            build built built | construct | for
            repair | mend | for
            choose chose chosen | select | for
            give gave given | donate | to
            """
        ),
        numbers=words("two three four"),
        adjectives=words("old wooden green narrow painted big"),
        things=words("chairs ladders baskets boxes tables carpets doors clocks"),
        places=words("Paris Rome Madrid Vienna Dublin Prague"),
        times=phrases("on Monday, on Tuesday, on Wednesday"),
    ),
    "test": DealWords(
        parties=phrases(
            "the tailor, the barber, the butcher, the dentist, the jeweller, the florist, the postman, the grocer"
        ),
        verbs=deal_verbs(
            """
            show showed shown | present | to
            hide hid hidden | conceal | from
            bring brought brought | deliver | to
            steal stole stolen | snatch | from
            clean | wash | for
            find found found | locate | for
            """
        ),
        numbers=words("five six seven eight"),
        adjectives=words("heavy copper round yellow antique silver"),
        things=words("mirrors drums bottles blankets barrels candles ropes maps"),
        places=words("Lisbon Athens Oslo Warsaw Cairo Boston"),
        times=phrases("on Thursday, on Friday, on Saturday"),
    ),
    "demos": DealWords(
        parties=phrases("the miller, the shepherd, the cobbler, the mechanic, the weaver, the hunter"),
        verbs=deal_verbs(
            """
            lend lent lent | loan | to
            collect | gather | from
            wrap wrapped wrapped | pack | for
            """
        ),
        numbers=words("nine ten"),
        adjectives=words("plastic purple oval"),
        things=words("buckets pillows vases spoons"),
        places=words("Berlin London Delhi"),
        times=phrases("on Sunday, at Easter"),
    ),
}

OFFICES: Mapping[Part, DealWords] = {
    "test": DealWords(
        parties=phrases(
            "the ministry, the embassy, the tribunal, the museum, the bank, the senate, the union, the treasury"
        ),
        verbs=deal_verbs(
            """
            approve | authorise | for
            obtain | acquire | from
            transmit transmitted transmitted | forward | to
            withhold withheld withheld | retain | from
            grant | award | to
            request | demand | from
            """
        ),
        numbers=words("eleven twelve thirteen fourteen"),
        adjectives=words("confidential legal annual secret digital revised"),
        things=words("contracts reports licences petitions archives budgets permits subsidies"),
        places=words("Geneva Brussels Washington Ottawa Canberra Nairobi"),
        times=phrases("in 2017, in 2018, in 2019"),
    ),
    "demos": DealWords(
        parties=phrases("the court, the parliament, the mayor, the insurer, the notary, the auditor"),
        verbs=deal_verbs(
            """
            lease | let let let | to
            receive | accept | from
            draft | compose | for
            """
        ),
        numbers=words("twenty thirty"),
        adjectives=words("formal printed joint"),
        things=words("invoices treaties ledgers visas"),
        places=words("Strasbourg Helsinki Lima"),
        times=phrases("in 2021, in 2022"),
    ),
}


def _with_parties(field: Mapping[Part, DealWords], **parties: str) -> dict[Part, DealWords]:
    return {part: replace(lists, parties=words(parties[part])) for part, lists in field.items()}


NEIGHBOURS = _with_parties(
    TRADE,
    train="Anna Peter Maria Tom Laura David Emma Jack",
    test="Nadia Omar Sofia Victor Clara Hugo Leila Martin",
    demos="Ivan Rosa Felix Nina Oscar Judith",
)

GODS: Mapping[Part, DealWords] = {
    "test": DealWords(
        parties=words("Zeus Athena Odin Hera Thor Apollo Loki Freya"),
        verbs=deal_verbs(
            """
            forge | fashion | for
            seize | capture | from
            offer | sacrifice | to
            carve | sculpt | for
            promise | pledge | to
            inherit | claim | from
            """
        ),
        numbers=words("sixteen seventeen eighteen nineteen"),
        adjectives=words("cursed sacred bronze magical immortal winged"),
        things=words("chariots spears shields amulets statues arrows helmets crowns"),
        places=words("Troy Sparta Asgard Delphi Thebes Ithaca"),
        times=phrases("at dawn, at dusk, at midnight"),
    ),
    "demos": DealWords(
        parties=words("Hermes Medea Pluto Isis Juno Ares"),
        verbs=deal_verbs(
            """
            hurl | fling flung flung | to
            bless | hallow | for
            plunder | loot | from
            """
        ),
        numbers=words("forty fifty"),
        adjectives=words("ivory holy mighty"),
        things=words("harps goblets daggers wreaths"),
        places=words("Carthage Avalon Corinth"),
        times=phrases("at noon, at sunrise"),
    ),
}

STREET: Mapping[Part, SceneWords] = {
    "train": SceneWords(
        beings=pairs(
            "boy child, violinist musician, chef cook, policeman officer, goalkeeper player, clown entertainer"
        ),
        link="in",
        colours=words("red black green white"),
        wears=words("coat hat shirt scarf"),
        moods=pairs("happy sad, young elderly, angry calm"),
        verbs=pairs("buying selling, pushing pulling, lifting dropping"),
        qualities=pairs("big little, new old, thick thin"),
        objects=pairs("hammer tool, apple fruit, rose flower, van vehicle, rifle gun"),
        places=words("river station market fountain"),
        companions=words("brother mother teacher farmer"),
    ),
    "test": SceneWords(
        beings=pairs("girl kid, pianist performer, nurse medic, sprinter athlete, sculptor artist, priest clergyman"),
        link="in",
        colours=words("blue yellow orange grey"),
        wears=words("jacket dress sweater cap"),
        moods=pairs("tired lively, rich poor, serious cheerful"),
        verbs=pairs("catching throwing, showing hiding, fixing breaking, raising lowering"),
        qualities=pairs("heavy light, wet dry, expensive cheap"),
        objects=pairs("guitar instrument, carrot vegetable, novel book, doll toy, bracelet jewel"),
        places=words("lighthouse cathedral playground airport cinema"),
        companions=words("uncle neighbour barber dentist"),
    ),
    "demos": SceneWords(
        beings=pairs("duchess noblewoman, soldier fighter, biologist scientist, poet writer"),
        link="in",
        colours=words("purple pink"),
        wears=words("robe cloak tunic"),
        moods=pairs("brave timid, sleepy alert"),
        verbs=pairs("borrowing lending, filling emptying"),
        qualities=pairs("long short, modern historic"),
        objects=pairs("canoe boat, flask container, bathtub basin"),
        places=words("castle windmill forest"),
        companions=words("cousin miller"),
    ),
}

ANIMALS: Mapping[Part, SceneWords] = {
    "test": SceneWords(
        beings=pairs("spaniel dog, kitten cat, eagle bird, gorilla ape, lizard reptile, stallion horse"),
        link="with",
        colours=words("brown golden beige striped"),
        wears=words("collar tail neck belly"),
        moods=pairs("wild tame, fierce gentle, healthy sick"),
        verbs=pairs("burying unearthing, grabbing releasing, guarding abandoning"),
        qualities=pairs("smooth rough, fresh rotten, sharp blunt"),
        objects=pairs("walnut nut, pebble rock, mushroom fungus, twig stick, acorn seed"),
        places=words("pond burrow meadow cave"),
        companions=words("squirrel hedgehog otter badger"),
    ),
    "demos": SceneWords(
        beings=pairs("calf cow, lamb sheep, duckling duck, piglet pig"),
        link="with",
        colours=words("crimson spotted"),
        wears=words("mane paw beak"),
        moods=pairs("fat skinny, hungry sated"),
        verbs=pairs("licking biting, following avoiding"),
        qualities=pairs("warm cold, ripe unripe"),
        objects=pairs("cherry berry, clover herb, grub maggot"),
        places=words("swamp creek barn"),
        companions=words("goat hen"),
    ),
}

TOWN: Mapping[Part, NewsWords] = {
    "train": NewsWords(
        groups=words("council school hospital army club company"),
        verbs=verbs("close, inspect, rebuild rebuilt rebuilt, remove, count, paint"),
        numbers=words("two three four"),
        adjectives=words("local wooden old narrow public"),
        things=words("roads bridges houses gardens towers shops"),
        causes=words("storm flood fire strike drought festival"),
        people=words("farmers parents tourists drivers"),
        feelings=words("grateful worried angry calm"),
        places=words("Paris Rome Madrid Vienna Dublin Prague"),
        times=phrases("on Monday, on Tuesday, on Wednesday"),
    ),
    "test": NewsWords(
        groups=words("brigade navy academy committee abbey guild"),
        verbs=verbs("demolish, guard, restore, examine, clear, photograph"),
        numbers=words("five six seven eight"),
        adjectives=words("concrete historical rural famous granite"),
        things=words("tunnels harbours cottages stables wells piers"),
        causes=words("earthquake blackout landslide epidemic heatwave hurricane"),
        people=words("villagers sailors pensioners commuters"),
        feelings=words("relieved nervous proud cheerful"),
        places=words("Lisbon Athens Oslo Warsaw Cairo Boston"),
        times=phrases("on Thursday, on Friday, on Saturday"),
    ),
    "demos": NewsWords(
        groups=words("monastery cooperative orchestra"),
        verbs=verbs("decorate, sweep swept swept, insure"),
        numbers=words("nine ten"),
        adjectives=words("brick medieval wide"),
        things=words("barns fences roofs"),
        causes=words("avalanche blizzard riot"),
        people=words("hikers tenants"),
        feelings=words("puzzled glad"),
        places=words("Berlin London Delhi"),
        times=phrases("on Sunday, at Easter"),
    ),
}

SPACE: Mapping[Part, NewsWords] = {
    "test": NewsWords(
        groups=words("observatory agency laboratory institute syndicate colony"),
        verbs=verbs("launch, calibrate, refuel, dismantle, activate, upgrade"),
        numbers=words("eleven twelve thirteen fourteen"),
        adjectives=words("solar robotic experimental orbital nuclear"),
        things=words("rockets satellites probes telescopes rovers antennas"),
        causes=words("eclipse glitch explosion quarantine sandstorm shutdown"),
        people=words("astronauts engineers physicists pilots"),
        feelings=words("thrilled ecstatic anxious sceptical"),
        places=words("Houston Baikonur Kourou Bangalore Darmstadt Tsukuba"),
        times=phrases("in 2017, in 2018, in 2019"),
    ),
    "demos": NewsWords(
        groups=words("consortium startup federation"),
        verbs=verbs("simulate, monitor, reboot"),
        numbers=words("twenty thirty"),
        adjectives=words("lunar cosmic metallic"),
        things=words("capsules sensors drones"),
        causes=words("collision leak outage"),
        people=words("chemists cadets"),
        feelings=words("amused astonished"),
        places=words("Pasadena Tucson Toulouse"),
        times=phrases("in 2021, in 2022"),
    ),
}
