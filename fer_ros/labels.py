"""The emotion list, and the maps between it and everybody else's labels."""

EMOTIONS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
"""AffectNet's order 0..7 (Mollahosseini et al., 2019). Every probability vector follows it."""

FERPLUS_VOTES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""Column order of the FER+ votes (Barsoum et al., 2016); ``NF`` means "not a face"."""

FERPLUS_TO_EMOTIONS = tuple(FERPLUS_VOTES.index(name) for name in EMOTIONS)
"""``votes[..., FERPLUS_TO_EMOTIONS]`` are the eight emotion votes in our order."""

HRI_EXPRESSIONS = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "fear": "scared",
    "disgust": "disgusted",
    "anger": "angry",
}
"""``hri_msgs/Expression`` constants. The message has no contempt, so contempt has no entry."""

_ALIASES = {
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "scared": "fear",
    "fearful": "fear",
    "disgusted": "disgust",
    "angry": "anger",
}


def to_emotion(name: str) -> str:
    """Our name of an emotion that another data set or message calls ``name``.

    Raises ValueError when the name means none of the eight emotions.
    """
    key = name.strip().lower()
    key = _ALIASES.get(key, key)
    if key not in EMOTIONS:
        raise ValueError(f"unknown emotion {name!r}: expected one of {', '.join(EMOTIONS)}")
    return key
