import pytest

from fer_ros.suggestions import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "cutoff", "expected"),
    [
        ("", [], 0.6, "known: none"),
        ("", ["tracker"], 0.6, "known: none"),
        ("traker", [], 0.6, "known: none"),
        ("traker", ["detector", "tracker"], 0.6, "did you mean 'tracker'?"),
        ("traker", {"tracker": 1}, 0.95, "known: none"),
        ("zzz", ["detector", "tracker"], 0.6, "known: none"),
    ],
)
def test_the_most_similar_name_is_suggested(name, known, cutoff, expected):
    assert did_you_mean(name, known, "known: none", cutoff) == expected
