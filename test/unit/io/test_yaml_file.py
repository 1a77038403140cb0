import pytest

from fer_ros.io.yaml_file import parse_yaml

# "Billion laughs": each line stands for ten times the one before.
LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "found"),
    [("", None), ("a: [1, &b 2.5]", {"a": [1, 2.5]}), ("'*a': x*y", {"*a": "x*y"})],
)
def test_yaml(text, found):
    assert parse_yaml(text.encode()) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a 1\nb: *a", "not a YAML file: alias *a is not supported: write its value out"),
        ("a: &a [*a]", "not a YAML file: alias *a is "),
        ("a: &a {x: 1}\nb: {<<: *a}", "not a YAML file: alias *a is "),
        (LAUGHS, "not a YAML file: alias *a0 is "),
        ("#" * (2**21 + 1), "expected YAML of at most 2097152 bytes, found 2097153"),
        ("a: [", "not a YAML file: "),
    ],
)
def test_unsupported_yaml_is_rejected(text, says):
    with pytest.raises(ValueError) as caught:
        parse_yaml(text.encode())
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
