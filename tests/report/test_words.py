"""Which modality breaks a picture, which words a prompt."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmcoa.report import results, statistics, tasks, words


def test_shares_are_those_of_a_plain_count(plain):
    combined = ("sequential",)
    frame = words.shares(plain, combined=combined)
    assert frame.sum(axis=1).to_numpy() == pytest.approx(100) and list(frame) == list(words.KINDS)
    own = plain.outcomes[plain.outcomes.method == "none"]
    text_alone = own.clean_correct & own.image_correct & ~own.text_correct
    assert frame.loc["none", "text alone"] == pytest.approx(100 * text_alone.groupby(own.dataset).mean().mean())
    together = own.clean_correct & own.image_correct & own.text_correct & ~own.sequential_correct
    assert frame.loc["none", "only together"] == pytest.approx(100 * together.groupby(own.dataset).mean().mean())


def test_levels_share_their_pictures_with_the_clean_ones(plain):
    kept = plain.outcomes[plain.outcomes.sample_id < 10]
    part = replace(plain, outcomes=kept, rows=plain.rows[plain.rows.attack == "text"], sweeps={})
    seen = replace(plain, sweeps={"meaning": {"any": part, "synonym": part}, "seen": {"": part}})
    found = words.at_levels(seen)
    assert list(found) == ["no attack", "any", "synonym", "any, seen words"]
    assert found["no attack"].set_index("method").n["none"] == 3 * 10
    clean = statistics.levels(replace(plain, outcomes=kept), attacks=["clean"])
    assert found["no attack"].value.tolist() == pytest.approx(clean.value.tolist())
    shown, numbers = words.levels_table(found)
    assert list(shown)[2:] == list(found) and len(numbers) == 4 * len(shown)


def test_under_two_choices_of_words_a_picture_must_withstand_both(plain):
    rows, other = plain.rows[plain.rows.attack == "text"], plain.outcomes.assign(text_correct=plain.outcomes.sample_id % 2 == 0)
    parts = {"embedding": replace(plain, rows=rows, sweeps={}), "margin": replace(plain, rows=rows, outcomes=other, sweeps={})}
    found = words.by_score(replace(plain, sweeps={"score": parts}))
    assert list(found) == ["no attack", "farthest embedding", "most errors", "either"]
    both = (plain.outcomes.text_correct & other.text_correct)[plain.outcomes.method == "none"]
    macro = 100 * both.groupby(plain.outcomes.dataset[both.index]).mean().mean()
    value = {name: frame.set_index("method").value["none"] for name, frame in found.items()}
    assert value["either"] == pytest.approx(macro) and value["either"] < min(value["farthest embedding"], value["most errors"])
    assert list(words.levels_table(found)[0])[2:] == list(found)


def test_relations_are_pooled_over_data_sets(plain):
    changes = plain.changes.assign(relation=np.where(plain.changes.index % 2, "sister", "synonym"))
    frame = words.relations(replace(plain, changes=changes))
    own = changes[(changes.method == "none") & (changes.attack == "text")]
    assert frame.set_index("relation").prompts.to_dict() == own.relation.value_counts().to_dict()
    none = plain.outcomes[plain.outcomes.method == "none"]
    assert frame.n.sum() == len(none) and (frame.clean * frame.n).sum() == pytest.approx(100 * none.clean_correct.sum())
    assert words.relations_table(frame)[0].damage.str.fullmatch(r"−?\d+\.\d").all()


def test_favourites_count_edits(plain):
    shown, _ = words.favourites(plain, count=3)
    found = words.edits(plain)
    assert shown.replaced.iloc[0] == found.groupby(["old", "where"]).size().max()
    assert set(found["where"]) == {"template", "class name"}


def test_words_of_the_template_are_told_from_class_names(plain):
    own = plain.changes.assign(method="mmcoa")
    changes = own.assign(edits=[[{"position": 1, "old_word": "photo", "new_word": "frame"}] for _ in range(len(own))])
    tasks = {"one": ["openmoji/birds"], "all": set(own.dataset)}
    shown, numbers = words.in_template(replace(plain, changes=pd.concat([plain.changes, changes])), tasks)
    share = numbers.set_index("method")
    found = words.edits(plain)
    assert share.loc["none", "all"] == pytest.approx(100 * (found["where"] == "template").mean())
    assert share.loc["mmcoa", "all"] > share.loc["none", "all"] and list(shown) == ["method", *tasks]


def test_what_the_page_says_of_words_chosen_by_errors(committed):
    main = results.load("main", committed)
    sides = {"in distribution": (tasks.base_set(main),), "out of distribution": tasks.macro_sets(main)}
    scored = [words.by_score(main, own) for own in sides.values()]
    inside, out = ({name: one.set_index("method").value for name, one in each.items()} for each in scored)
    base = sides["in distribution"]
    parts = [main.sweep("score")[value] for value in words.SCORES.values()]
    usual, errors = (statistics.gains(part, base, attacks=["text"]).set_index("method") for part in parts)
    assert usual.low["mmcoa"] < 0 < usual.low["mmcoa-own"] < usual.low["text_only"] and errors.low["mmcoa-own"] > 0
    own = {name: [statistics.right(part, name, "text", base) for part in parts] for name in inside["either"].index}
    either = {name: statistics.together(np.minimum, *both) for name, both in own.items()}
    low = {name: statistics.known(statistics.together(np.subtract, one, either["none"])).low for name, one in either.items()}
    assert min(low["text_only"], low["mmcoa-own"]) > 0 > max(low["mmcoa"], low["tecoa"])
    assert (out["most errors"] < out["farthest embedding"]).all()
    assert inside["most errors"]["mmcoa"] > inside["farthest embedding"]["mmcoa"]  # neither choice is the stronger everywhere
    share = words.in_template(main, sides)[1].set_index("method")
    leaf = ["leaf", "leaf-after-fare"]
    assert share.loc[leaf].to_numpy().min() > 25 and share.drop(leaf).to_numpy().max() < 2
