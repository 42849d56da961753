from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from layerdrop.sequencer import is_newer

sequencers = st.text("0123456789ABCDEF", min_size=1, max_size=20)


def as_number(sequencer: str) -> Fraction:
    """Digits behind a point: zeros on the right change nothing, which is what S3's rule of padding says."""
    return Fraction(int(sequencer, 16), 16 ** len(sequencer))


@given(sequencers, sequencers)
def test_order_is_that_of_fractions(one: str, other: str) -> None:
    assert is_newer(one, than=other) == (as_number(one) > as_number(other))


@given(sequencers, st.integers(0, 5))
def test_padding_is_not_newer(sequencer: str, zeros: int) -> None:
    padded = sequencer + "0" * zeros
    assert not is_newer(padded, than=sequencer)
    assert not is_newer(sequencer, than=padded)


def test_letters_count_the_same_in_both_cases() -> None:
    assert is_newer("00af", than="00AE")
    assert not is_newer("00ae", than="00AF")
