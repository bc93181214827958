"""Every number in the text of the published pages, computed again by a second program: pandas on the packed files alone."""

import json
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from mmcoa.datasets.roles import role

BASE = ("photos/tiny-imagenet",)
RESULTS = Path(__file__).parents[2] / "results"
ATTACKS = ("clean", "image", "text", "independent", "sequential", "multimodal")
ELSEWHERE = {"claims", "ttc", "method", "models", "reproduce", "limits", "question", "threat"}  # tests of their own, or texts


@pytest.fixture(scope="module")
def numbers(published):
    """{page: {name: value}} of all that the text of the pages is given."""
    folder = published / "_build" / "numbers"
    said = {path.stem: json.loads(path.read_text(encoding="utf8")) for path in folder.glob("*.json")}
    return {page: {name: one["value"] for name, one in own.items()} for page, own in said.items()}


@cache
def outcomes(study):
    return pd.concat([pd.read_parquet(path) for path in sorted((RESULTS / study / "outcomes").glob("*.parquet"))])


@cache
def by_set(study, entry, attack, sweep="", value=""):
    """{data set: Series of right pictures, seeds taken together}, in percent."""
    frame = outcomes(study)
    for column, wanted in (("entry", entry), ("attack", attack), ("sweep", sweep), ("sweep_value", value)):
        frame = frame[frame[column].astype(object) == wanted]
    found = frame.astype({"dataset": object}).groupby(["dataset", "sample_id", "label"]).correct.mean()
    return {name: 100 * part.droplevel(0) for name, part in found.groupby(level=0)}


@cache
def sets():
    """Data sets of "out of distribution, macro": unseen, and over three times chance undefended."""
    rows = pd.read_csv(RESULTS / "main" / "rows.csv", keep_default_na=False)
    rows = rows[(rows.model == "none") & (rows.sweep == "") & (rows.attack == "clean")]
    rows = rows[[role(name, "lite-clip") == "unseen" for name in rows.dataset]]
    return tuple(rows.dataset[rows.accuracy.astype(float) > 300 / rows.classes.astype(int)])


def level(entry, attack, over=None, study="main", sweep="", value=""):
    return macro(by_set(study, entry, attack, sweep, value), over)


def macro(found, over=None):
    kept = [part.mean() for name, part in found.items() if over is None or name in over]
    return sum(kept) / len(kept)


def gain(method, attack, over):
    return level(method, attack, over) - level("none", attack, over)


def half_of_sets(method, attack):  # half the t interval over the data sets
    each = pd.Series([gain(method, attack, (name,)) for name in sets()])
    return stats.t.ppf(0.975, len(each) - 1) * each.std() / len(each) ** 0.5


def half_of_base(method, attack):
    """Half the cluster-robust interval of the base set, classes as clusters."""
    base = by_set("main", method, attack)[BASE[0]] - by_set("main", "none", attack)[BASE[0]]
    sums = (base - base.mean()).groupby(level="label").sum()
    return stats.t.ppf(0.975, len(sums) - 1) * (len(sums) / (len(sums) - 1) * (sums**2).sum()) ** 0.5 / len(base)


def agree(said, own):  # those of a page's numbers that are computed again
    assert {name: said[name] for name in own} == pytest.approx(own, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("page, over", [("in", BASE), ("out", None)])
def test_levels_of_all_methods(numbers, page, over):
    said, over = numbers[page], over or sets()
    own = {name: level(*name.rsplit("_", 1), over) for name in said if name.endswith(ATTACKS)}
    assert len(own) >= 24
    own["n"] = sum(len(by_set("main", "none", "clean")[each]) for each in over)
    emoji = outcomes("emoji").query("attack == 'clean' and sweep == ''")
    emoji = emoji[(emoji.entry == "none") & ~emoji.dataset.isin(emoji.dataset[emoji.entry == "mmcoa-in"])]
    more = {"emoji_n": len(emoji), "emoji_sets": emoji.dataset.nunique()}
    more |= {"mmcoa_less": level("tecoa", "image", over) - level("mmcoa", "image", over)}
    inside = {"clean_gain": gain("clean", "clean", over)}
    for name, (which, sweep) in product(("cifar10", "flowers102"), (("usual", ""), ("adaptive", "score"))):
        where = "text", (f"photos/{name}",), "in-distribution", sweep
        inside[f"{name}_{which}"] = level("mmcoa-in", *where) - level("none", *where)
    assert inside["cifar10_usual"] > 20 and inside["cifar10_adaptive"] < 0 < inside["flowers102_adaptive"]  # as the page says
    agree(said, own | (more if page == "out" else inside))


def before_words():
    """Undefended accuracy without attack on the very pictures whose prompts are attacked at levels."""
    every, part = by_set("main", "none", "clean"), by_set("main", "none", "text", "meaning", "any")
    return macro({name: every[name][own.index] for name, own in part.items()}, sets())


def words(value):  # undefended accuracy under the text attack at a level
    return level("none", "text", sets(), sweep="meaning", value=value)


@pytest.mark.slow
def test_the_first_page(numbers):
    own = {"sets": len(sets()), "n": numbers["out"]["n"]}
    own |= {"meaning_clean": before_words(), "meaning_any": words("any"), "meaning_kept": words("meaning")}
    tasks = (("in", BASE, half_of_base), ("out", sets(), half_of_sets))
    for method, attack, (task, over, half) in product(("mmcoa", "tecoa"), ("image", "text"), tasks):
        name = f"{task}_{method}_{attack}"
        own |= {name: gain(method, attack, over), f"{name}_half": half(method, attack)}
    some = [name for name in sets() if name in set(outcomes("ablations-photos").dataset)]
    for name, sweep in {"usual": "", "adaptive": "score"}.items():
        own[f"hidden_{name}"] = level("mmcoa-text", "text", some, "ablations-photos", sweep)
    agree(numbers["index"], own)
    assert set(numbers["index"]) == {*own, "version"}


@pytest.mark.slow
def test_impact_and_words(numbers):
    own = {name: level("none", name, sets()) for name in numbers["impact"] if name != "sets"}
    agree(numbers["impact"], own | {"sets": len(sets())})
    lost = {"text_alone": {}, "image_alone": {}, "either": {}}
    for name in sets():
        clean, image, text = (by_set("main", "none", attack)[name] > 50 for attack in ("clean", "image", "text"))
        for kind, fallen in zip(lost, (image & ~text, ~image & text, ~image & ~text), strict=True):
            lost[kind][name] = 100 * (clean & fallen)
    own = {kind: macro(each) for kind, each in lost.items()}
    for name, value in (("any", "any"), ("synonym", "synonym"), ("meaning_kept", "meaning")):
        own |= {f"level_{name}": words(value), f"damage_{name.removeprefix('meaning_')}": before_words() - words(value)}
    places, scores = {"in": BASE, "out": sets()}, {"usual": "embedding", "adaptive": "margin"}
    for side, name, which in product(places, ("none", "text_only", "mmcoa", "mmcoa-own"), scores):
        value = level(name, "text", places[side], sweep="score", value=scores[which])
        own[f"{side}_{name.replace('-', '_')}_{which}"] = value
        both = [by_set("main", name, "text", "score", each) for each in scores.values()]
        either = {each: pd.concat([one[each] for one in both], axis=1).min(axis=1) for each in both[0]}
        own[f"{side}_{name.replace('-', '_')}_either"] = macro(either, places[side])
    agree(numbers["words"], own | {"level_any_seen_words": level("none", "text", sets(), sweep="seen")})


@pytest.mark.slow
def test_ablations_faults_and_comparisons(numbers):
    some = [name for name in sets() if name in set(outcomes("ablations-photos").dataset)]
    places = {"in": (BASE, "ablations-photos"), "out": (some, "ablations-photos"), "easy": (None, "ablations")}
    short = {"heavy": "mmcoa-lambda90", "light": "mmcoa-lambda10", "decay": "coupled-decay", "leak": "gradient-leak"}
    short["cand"] = "misaligned-candidates"

    def moved(name, *what):  # in distribution and under the image attack, unless said
        place, attack = places[next(filter(places.get, what), "in")], next(filter(set(ATTACKS).__contains__, what), "image")
        return level(short.get(name, "all-faults"), attack, *place) - level("mmcoa", attack, *place)

    assert {name: moved(*name.split("_")) for name in numbers["faults"]} == pytest.approx(numbers["faults"], abs=1e-6)
    of_weights = [name for name in numbers["ablations"] if name.startswith(("heavy_", "light_"))]
    assert len(of_weights) == 6
    own = {name: moved(*name.split("_")) for name in of_weights} | {"sets": len(some), "n": 150}
    text = {"usual": ("ablations-photos", ""), "adaptive": ("ablations-photos", "score")}
    for name, where in text.items():
        own[f"text_tower_{name}"] = level("mmcoa-text", "text", some, *where)
        own[f"text_tower_{name}_in"] = level("mmcoa-text", "text", BASE, *where)
    own["none_adaptive"] = level("none", "text", some, *text["adaptive"])
    own["image_tower_text"] = level("mmcoa-image", "text", *places["in"]) - level("mmcoa", "text", *places["in"])
    own["text_tower_image"] = level("mmcoa-text", "image", *places["in"]) - level("mmcoa", "image", *places["in"])
    for steps in ("inner1", "inner5"):
        own[f"{steps}_out"] = level(f"mmcoa-{steps}", "image", *places["out"]) - level("mmcoa", "image", *places["out"])
    odd = outcomes("ablations-photos").query("entry == 'mmcoa-steps60' and attack == 'text'")
    odd = odd[odd.dataset.isin(["photos/cifar10", "photos/pacs-photo"])].astype(
        {"model": object, "dataset": object, "sweep": object}
    )
    odd = 100 * odd.groupby(["sweep", "model", "dataset"]).correct.mean()
    first = "mmcoa-steps60-seed0"
    own |= {"half_first": odd["", first].min(), "half_adaptive": odd["score", first].max()}
    own["half_others"] = odd[""].drop(first, level="model").max()
    agree(numbers["ablations"], own)
    beside = pd.concat(map(pd.read_csv, [RESULTS / "strength" / "image.csv", *(RESULTS / "strength").glob("pairs*.csv")]))
    more = {"worst": beside.difference_points.max(), "mean": beside.difference_points.mean(), "agree": beside.agrees.sum()}
    agree(numbers["trust"], more | {"compared": len(beside)})


@pytest.mark.slow
def test_test_time_defences(numbers):
    own, attacks = {"sets": 2, "n": 100}, {"transfer": "image@transfer", "adaptive": "image@adaptive", "worst": "image"}
    for entry in ("none", "tecoa", "mmcoa"):
        there = by_set("main", entry, "clean", "ttc")
        for name, attack in {"no_defence": "image", "no_defence_clean": "clean"}.items():
            own[f"{entry}_{name}"] = macro({each: by_set("main", entry, attack)[each][there[each].index] for each in there})
        own |= {f"{entry}_{side}": level(entry, attack, sweep="ttc") for side, attack in ({"clean": "clean"} | attacks).items()}
    assert own.keys() == numbers["ttc"].keys()
    agree(numbers["ttc"], own)


def test_what_the_pages_say_without_a_number():
    """Sentences of the first page, of the pages on the two tasks, and of trust. trained: on attacked pictures."""
    trained = ["tecoa", "fare", "sim-clip", "pmg_aft", "agft", "advflyp", "image_only", "mmcoa", "mat", "leaf-after-fare"]
    every = (*trained, "text_only", "leaf")

    def certain(one, attack, over=None):
        return gain(one, attack, over or sets()) > (half_of_base if over else half_of_sets)(one, attack)

    def first(names, attack, over=None):
        return max(names, key=lambda one: gain(one, attack, over or sets()))

    assert all(certain(one, "image") for one in trained) and first(trained, "image") == "advflyp"
    assert first((one for one in trained if one != "advflyp"), "image") == "tecoa"
    assert not any(certain(one, "text") for one in (*every, "clean"))
    assert all(gain(one, "clean", sets()) < 0 for one in every) and first(trained, "clean") == "fare"
    assert min(trained, key=lambda one: gain(one, "clean", sets())) == "agft"
    assert all(abs(gain("leaf", attack, sets())) < 4 for attack in ("clean", "image", "text"))
    both = [one for one in (*every, "clean") if all(certain(one, name, BASE) for name in ("image", "text", "sequential"))]
    assert both == ["mmcoa", "leaf-after-fare"] and first((*every, "clean"), "sequential", BASE) == "mmcoa"
    assert gain("mat", "image", BASE) >= gain("mmcoa", "image", BASE) and not certain("mat", "text", BASE)
    assert all(gain("mmcoa", name, BASE) > gain("leaf-after-fare", name, BASE) for name in ("image", "clean"))
    assert not any(certain(one, "image", BASE) for one in ("text_only", "clean"))
    assert first((*every, "clean"), "text", BASE) == "text_only" and certain("mmcoa", "text", BASE)
    assert gain("mmcoa-own", "text", BASE) > gain("text_only", "text", BASE) > 1.5 * gain("mmcoa", "text", BASE)
    assert all(certain("mmcoa-own", name, BASE) for name in ("image", "text", "sequential"))
    assert gain("mmcoa-own", "image", BASE) < gain("mmcoa", "image", BASE) and certain("mmcoa-own", "image")
    assert all(gain(one, "text", BASE) < -half_of_base(one, "text") for one in ("tecoa", "pmg_aft", "agft", "image_only"))
    assert level("none", "auto", sweep="auto") < level("none", "image", sweep="auto") - 5
    assert all(level(one, "image", sweep="auto") - level(one, "auto", sweep="auto") < 3 for one in ("tecoa", "mmcoa"))
    emoji = {one: [level(one, kind, study="emoji") for kind in ("image", "text")] for one in (*every, "none")}
    image, text = ({one: emoji[one][i] - emoji["none"][i] for one in every} for i in (0, 1))
    assert min(image[one] for one in trained) > 6 and max(text.values()) < 2 and image["mmcoa"] < image["tecoa"] / 2
    rows = pd.read_csv(RESULTS / "main" / "rows.csv", keep_default_na=False)
    assert set(rows[rows.sweep == "ttc"].masked) <= {"", "False"}


@pytest.mark.slow
def test_no_page_has_numbers_that_nobody_checks(numbers):
    checked = "index impact in out words ablations faults trust gallery"
    assert set(numbers) - ELSEWHERE == set(checked.split())
