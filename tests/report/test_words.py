import dataclasses

import pandas as pd

from mmcoa.report import sweeps, words


def test_prompts_table_marks_the_changed_word(study):
    table = words.prompts_table(study).set_index("data set")
    assert len(table) == 3 and list(table) == ["prompt", "adversarial prompt", "right before", "right after"]
    for prompt, adversarial in zip(table.prompt, table["adversarial prompt"], strict=True):
        assert prompt.count("]{.was}") == adversarial.count("]{.now}") == 1
        assert "[snapshot]{.now}" in adversarial or "[thing]{.now}" in adversarial


def test_prompts_with_two_changed_words(study):
    table = words.prompts_table(sweeps.most_edited(study), edits=2)
    assert len(table) == 3 and "right before" not in table  # that sweep has no clean accuracy: the main evaluation has
    whole = words.prompts_table(sweeps.most_edited(study), edits=2, clean=study)
    own = study.outcomes.query("method == 'none' and dataset == 'openmoji/birds' and sample_id < 12")
    counts = [f"{part.clean_correct.sum()} of {len(part)}" for _, part in own.groupby("label")]
    assert whole.set_index("data set").loc["birds", "right before"] in counts
    assert table.prompt.str.startswith("This is a [photo]{.was} of a [").all()
    assert table["adversarial prompt"].str.match(r"This is a \[snapshot\]\{\.now\} of a \[thing\]\{\.now\}").all()
    assert words.prompts_table(study, edits=2).empty


def test_the_worst_class_is_shown(study):
    outcomes = study.outcomes[(study.outcomes.method == "none") & (study.outcomes.dataset == "openmoji/tools")]
    counts = words.lost(outcomes)
    label = counts.lost.idxmax()
    own = outcomes[outcomes.label == label]
    row = words.prompts_table(study).set_index("data set").loc["tools"]
    assert row["right before"] == f"{own.clean_correct.sum()} of {len(own)}"
    assert row["right after"] == f"{own.text_correct.sum()} of {len(own)}"


def test_marked_escapes_what_markdown_would_read():
    edits = [{"position": 0}, {"position": 2}]
    assert words.marked("a_b $c (dog).", edits, ".was") == r"[a\_b]{.was} $c ([dog]{.was})."
    assert words.marked("no *change*", [], ".was") == "no *change*"


def test_hits_tell_template_from_class_name(study):
    found = words.hits(study)
    assert set(found["where"]) == {"template", "class name"}
    assert set(found.old_word[found["where"] == "template"]) == {"photo"}
    table = words.hits_table(study).set_index("data set")
    assert (table["template word"] + table["class name"] + table.unchanged == table.prompts).all()
    assert table.loc["birds", "prompts"] == 21 and table.loc["birds", "template word"] == 11
    assert table.loc["birds", "most often replaced"] == "photo (11)"
    assert 45 < words.template_share(study) < 55


def test_joint_attack_is_not_counted(study):
    other = study.changes.assign(attack="joint")
    both = dataclasses.replace(study, changes=pd.concat([study.changes, other], ignore_index=True))
    pd.testing.assert_frame_equal(words.hits_table(both), words.hits_table(study))


def test_unchanged_prompts_are_counted(study):
    changes = study.changes.copy()
    first = changes.index[(changes.method == "none") & (changes.dataset == "openmoji/birds")][0]
    changes.at[first, "edits"], changes.at[first, "changed"] = [], False
    table = words.hits_table(dataclasses.replace(study, changes=changes)).set_index("data set")
    assert table.loc["birds", "unchanged"] == 1 and table.loc["birds", "template word"] == 10
    for row in changes.index:
        changes.at[row, "edits"] = []
    table = words.hits_table(dataclasses.replace(study, changes=changes))
    assert set(table["most often replaced"]) == {"none twice"}


def test_prompts_without_class_names():
    changes = pd.DataFrame({"prompt": ["healthy tissue", "healthy tissue"], "class_name": ["x", "y"]})
    assert words.name_positions(changes) == [[], []]
