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


def test_description_states_the_budget():
    text = ThreatModel(epsilon="2/255", restarts=2).describe()
    assert all(part in text for part in ("l_inf", "2/255", "native", "10 steps", "0.5/255", "2 restarts", "table:eval"))
