"""Emotion classes, and the labels of other datasets and messages for them."""

import unicodedata

from fer_ros.suggestions import did_you_mean

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
"""AffectNet's order 0..7 (Mollahosseini et al., 2019), the order of every probability vector."""

EMOTION_COLORS = {
    "neutral": "#9aa0a6",
    "happiness": "#ffc800",
    "sadness": "#3d6fd1",
    "surprise": "#f07c1c",
    "fear": "#8e4ec6",
    "disgust": "#5e9c31",
    "anger": "#d6362b",
    "contempt": "#0b9a94",
}
"""Color of each emotion in plots, reports and overlays, as ``#rrggbb``."""

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
"""``votes[..., FERPLUS_TO_EMOTIONS]`` are the eight emotion votes in the order of EMOTIONS."""

HRI_EXPRESSIONS = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "fear": "scared",
    "disgust": "disgusted",
    "anger": "angry",
}
"""``hri_msgs/Expression`` constants. The message has no constant for contempt."""

_SYNONYMS = {
    "neutral": "neutrality neutre neutro neutra neutraal",
    "happiness": "happy joy joyful freude froh glucklich gluecklich frohlich froehlich"
    " joie heureux joyeux bonheur alegria feliz felicidad felicidade gioia felice felicita"
    " blij blijdschap geluk",
    "sadness": "sad sorrow trauer traurig traurigkeit triste tristesse tristeza tristezza"
    " verdriet verdrietig droevig",
    "surprise": "surprised astonished uberraschung ueberraschung uberrascht ueberrascht sorpresa"
    " sorprendido sorpreso surpresa surpreso surpris verrassing verrast",
    "fear": "scared fearful afraid angst furcht angstlich aengstlich peur apeure miedo temor medo"
    " paura spaventato bang",
    "disgust": "disgusted ekel degout degoute asco disgusto nojo walging",
    "anger": "angry mad wut wutend wuetend arger aerger zorn zornig colere enojo enfadado ira"
    " rabbia arrabbiato raiva irritado boos boosheid woede",
    "contempt": "contemptuous verachtung mepris desprecio disprezzo desprezo minachting",
}
"""Words for each emotion in English, German, French, Spanish, Italian, Portuguese and Dutch."""

_EMOTION_OF = {
    word: emotion for emotion, words in _SYNONYMS.items() for word in (emotion, *words.split())
}


def to_emotion(name: str) -> str:
    """Return the emotion in EMOTIONS that ``name`` denotes: its name, or a synonym of it.

    Case and accents do not matter.

    Raises:
        ValueError: ``name`` denotes none of the eight emotions.
    """
    letters = unicodedata.normalize("NFKD", name.strip().casefold())
    key = "".join(letter for letter in letters if not unicodedata.combining(letter))
    if key in _EMOTION_OF:
        return _EMOTION_OF[key]
    error = f"unknown emotion {name!r}: expected one of {', '.join(EMOTIONS)}"
    hint = did_you_mean(key, EMOTIONS, "", cutoff=0.8)
    raise ValueError(f"{error}; {hint}" if hint else error)
