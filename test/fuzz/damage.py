"""Damaged files."""

from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file that is whole, or whose end is missing, bytes are others, or a part is repeated."""
    data = bytearray(content)
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)
    ):
        data[place] = value
    if draw(st.booleans()):
        begin, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        data[begin:begin] = data[begin:end]
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])
