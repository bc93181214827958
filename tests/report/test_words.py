"""Which modality breaks a picture, which words a prompt."""

from dataclasses import replace

import numpy as np
import pytest

from mmcoa.report import statistics, words


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
