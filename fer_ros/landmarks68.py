"""Index sets of the 68 iBUG landmarks (Sagonas et al., 300 Faces in-the-Wild Challenge, 2016).

"Left" and "right" are those of the image, not of the person.
"""

NUM_LANDMARKS = 68
LEFT_EYE, RIGHT_EYE = range(36, 42), range(42, 48)
NOSE_TIP = 30
OUTER_EYE_CORNERS = (36, 45)
MOUTH_CORNERS = (48, 54)

ALIGNMENT_GROUPS = (LEFT_EYE, RIGHT_EYE, (NOSE_TIP,), *((corner,) for corner in MOUTH_CORNERS))
"""Landmarks that average to each of the five alignment points."""

RIGID = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)
"""Nose and eye corners, which no expression moves."""

_MIRRORED_PAIRS = (
    *((i, 16 - i) for i in range(8)),
    *((17 + i, 26 - i) for i in range(5)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),
    *((60, 64), (61, 63), (65, 67)),
)


def _flip_order() -> tuple[int, ...]:
    order = list(range(NUM_LANDMARKS))
    for left, right in _MIRRORED_PAIRS:
        order[left], order[right] = right, left
    return tuple(order)


FLIP = _flip_order()
"""Landmark i of a mirrored face is landmark ``FLIP[i]`` of the original."""
