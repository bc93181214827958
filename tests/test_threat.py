import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel, format_epsilon, parse_epsilon


@pytest.mark.parametrize(
    "text,value", [("1/255", 1 / 255), (" 2 / 255", 2 / 255), ("0.5", 0.5), (0.25, 0.25), ("0.5/255", 0.5 / 255)]
)
def test_epsilon_is_parsed(text, value):
    assert parse_epsilon(text) == pytest.approx(value)


@given(st.integers(1, 510).map(lambda halves: halves / 2))
def test_epsilon_survives_being_printed(steps):
    assert parse_epsilon(format_epsilon(steps / 255)) == pytest.approx(steps / 255)


@pytest.mark.parametrize(
    "values,message",
    [
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": 2}, "did you mean 2/255"),
        ({"epsilon": "many"}, "not a number"),
        ({"norm": "l1"}, "unknown norm"),
        ({"attacked_space": "models"}, "nearest: model"),
        ({"steps": 0}, "steps"),
        ({"restarts": 0}, "restarts"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        ThreatModel(**values)


def test_step_size_follows_epsilon_unless_it_was_given():
    assert ThreatModel(epsilon="4/255").step_size == pytest.approx(1 / 255)
    assert ThreatModel(epsilon="4/255").changed(epsilon="8/255").step_size == pytest.approx(2 / 255)
    assert ThreatModel(epsilon="4/255", step_size="4/255").changed(epsilon="8/255").step_size == pytest.approx(4 / 255)
    with pytest.raises(UserError, match="epsilon"):
        ThreatModel().changed(epsilonn=1)


@pytest.mark.parametrize(
    "values,message",
    [
        ({"text_threat": "synonyms"}, "nearest: synonym"),
        ({"text_threat": "synonym", "candidate_source": "neighbours"}, "source 'neighbours' knows none"),
        ({"words": "2"}, "unknown words"),
        ({"words": "seen", "candidate_source": "characters"}, "source 'characters' has none"),
        ({"words": "seen", "candidate_source": "table:synonyms"}, "'table:synonyms' has none"),
        ({"similarity_encoder": "minilmm"}, "nearest: minilm"),
        ({"text_threat": "meaning", "min_similarity": 2}, "cosine"),
    ],
)
def test_levels_and_halves_that_do_not_exist_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        ThreatModel(**values)


def test_words_and_candidate_source_say_one_thing():
    seen = ThreatModel(words="seen")
    assert seen == ThreatModel(candidate_source="table:train") and seen.candidate_source == "table:train"
    assert ThreatModel() == ThreatModel(words="unseen") == seen.changed(words="unseen")
    assert seen.changed(candidate_source="table:eval") == seen.changed(candidate_source="neighbours").changed(
        candidate_source="table:eval"
    )
    assert ThreatModel(**seen.asdict()) == seen.changed(seed=0) == seen


def test_the_floor_belongs_to_the_level_unless_it_was_given():
    meaning = ThreatModel(text_threat="meaning")
    assert meaning.min_similarity == 0.8 and meaning.changed(text_threat="any") == ThreatModel()
    assert ThreatModel().changed(text_threat="meaning") == meaning == ThreatModel(**meaning.asdict())
    given = ThreatModel(text_threat="meaning", min_similarity=0.9)
    assert given.changed(text_threat="any").min_similarity == 0.9
    assert ThreatModel(min_similarity=0.7).changed(text_threat="meaning").min_similarity == 0.7


def test_description_states_the_budget():
    text = ThreatModel(epsilon="2/255", restarts=2).describe()
    assert all(part in text for part in ("l_inf", "2/255", "native", "10 steps", "0.5/255", "2 restarts", "table:eval"))
