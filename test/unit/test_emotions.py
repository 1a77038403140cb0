import pytest

from fer_ros.emotions import (
    EMOTIONS,
    FERPLUS_TO_EMOTIONS,
    FERPLUS_VOTES,
    HRI_EXPRESSIONS,
    to_emotion,
)


def test_the_order_is_that_of_affectnet():
    """Models and messages hold indices: another order would rename every emotion."""
    assert " ".join(EMOTIONS) == "neutral happiness sadness surprise fear disgust anger contempt"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, name) for name in EMOTIONS),
        ("Happy", "happiness"),
        (" scared ", "fear"),
        ("ANGRY", "anger"),
    ],
)
def test_other_names_of_emotions(name, expected):
    assert to_emotion(name) == expected


@pytest.mark.parametrize("name", ["", "bored", "NF", "unknown"])
def test_unknown_emotion(name):
    with pytest.raises(ValueError, match=f"unknown emotion '{name}'.*contempt"):
        to_emotion(name)


def test_label_maps_agree():
    assert [FERPLUS_VOTES[i] for i in FERPLUS_TO_EMOTIONS] == list(EMOTIONS)
    assert set(EMOTIONS) - set(HRI_EXPRESSIONS) == {"contempt"}
    assert all(to_emotion(theirs) == ours for ours, theirs in HRI_EXPRESSIONS.items())
