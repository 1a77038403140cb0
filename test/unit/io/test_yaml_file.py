import pytest

from fer_ros.io.yaml_file import parse_yaml

# "Billion laughs": each line stands for ten times the one before.
LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("a: [1, &b 2.5]", {"a": [1, 2.5]}),
        ("'*a': x*y", {"*a": "x*y"}),
        ("[0, -7, +7, 0x1F]", [0, -7, 7, 31]),
        ("[1e-1, 1E3, -2.5e+3, .5, 5., +.inf]", [0.1, 1000.0, -2500.0, 0.5, 5.0, float("inf")]),
        ("[010, 0o10, 0b1, 1_0, 1:30, 1e, e1, -]", None),
        ("{a: {b: 1}, c: {b: 1}, 1: x, '1': y}", {"a": {"b": 1}, "c": {"b": 1}, 1: "x", "1": "y"}),
    ],
)
def test_yaml(text, found):
    words = text.strip("[]").split(", ")
    assert parse_yaml(text.encode()) == (words if text and found is None else found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a 1\nb: *a", "not a YAML file: alias *a is not supported: write its value out"),
        ("a: &a [*a]", "not a YAML file: alias *a is "),
        ("a: &a {x: 1}\nb: {<<: *a}", "not a YAML file: alias *a is "),
        (LAUGHS, "not a YAML file: alias *a0 is "),
        ("#" * (2**21 + 1), "expected YAML of at most 2097152 bytes, found 2097153"),
        ("a: {x: 1, y: 2, x: 3}", "not a YAML file: key 'x' is given twice: remove one in"),
        ("a: 1\nb: 2\n'a': 3", "not a YAML file: key 'a' is given twice"),
        ("a: [", "not a YAML file: "),
    ],
)
def test_unsupported_yaml_is_rejected(text, says):
    with pytest.raises(ValueError) as caught:
        parse_yaml(text.encode())
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
