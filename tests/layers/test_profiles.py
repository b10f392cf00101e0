import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_dropout.layers import exponential, linear, uniform

PROFILES = [uniform, linear, exponential]


@pytest.mark.parametrize("profile", PROFILES)
@given(rate=st.floats(0, 1), num_layers=st.integers(1, 40))
def test_rates_never_fall_with_depth_and_end_at_the_given_one(profile, rate, num_layers):
    rates = [profile(rate, num_layers)(depth) for depth in range(num_layers)]
    assert rates == sorted(rates)
    assert rates[-1] == rate
    assert rates[0] >= 0.0


def test_linear_is_that_of_stochastic_depth():
    assert [linear(0.5, 5)(depth) for depth in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_exponential_grows_by_one_factor():
    profile = exponential(0.4, 4, gamma=0.5)
    factors = [profile(depth + 1) / profile(depth) for depth in range(3)]
    assert factors == pytest.approx([2 ** (1 / 4)] * 3)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_makes_no_sense_is_refused(profile):
    with pytest.raises(ValueError, match=r"^rate is 1\.5\. Give the probability of dropping"):
        profile(1.5, 4)
    with pytest.raises(ValueError, match=r"^A depth profile over num_layers=0 is empty\. Give the number of blocks\.$"):
        profile(0.1, 0)
    with pytest.raises(ValueError, match=r"^depth is 4, but the profile was made for 0 to 3\.$"):
        profile(0.1, 4)(4)


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_a_profile_that_does_not_grow_is_refused(gamma):
    with pytest.raises(ValueError, match=rf"^exponential\(gamma={gamma}\) has to lie in \(0, 1\]"):
        exponential(0.1, 4, gamma=gamma)
