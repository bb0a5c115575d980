"""Sources, schedules and plans as hypothesis draws them."""

from hypothesis import strategies as st

from codiemb.data import (
    Alternate,
    Proportional,
    SizePower,
    Weights,
)

seeds = st.integers(0, 2**32 - 1)


@st.composite
def schedules(draw, names):
    weights = {name: draw(st.sampled_from([1, 2, 9, 0.002])) for name in names}
    return draw(
        st.sampled_from(
            [Proportional(), SizePower(draw(st.floats(0, 1, width=32))), Weights(weights), Alternate()]
        )
    )
