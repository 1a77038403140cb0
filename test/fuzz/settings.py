"""Settings as dictionaries and as files of parameters."""

import argparse
import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fer_ros.cli.params import add_arguments
from fer_ros.config import PipelineConfig, from_dict
from fuzz import only

_NAMES = sorted(
    {item.name for item in fields(PipelineConfig)}
    | {
        item.name
        for stage in fields(PipelineConfig)
        if is_dataclass(stage.default_factory)
        for item in fields(stage.default_factory)
    }
)
_KEYS = st.one_of(
    st.sampled_from(_NAMES),
    st.sampled_from([f"detector.{name}" for name in _NAMES]),
    st.text(max_size=6),
    st.integers(),
    st.none(),
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.dates(),
    st.just(10**400),
)
ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=8,
)
"""What a YAML file can hold."""
_STAGES = st.dictionaries(_KEYS, st.dictionaries(_KEYS, _LEAVES, max_size=3) | _LEAVES, max_size=3)

# Texts that YAML's own constructors stumble over, each in another way.
BAD_YAML = (
    b"\xff\xfe\x00",
    b"a: [",
    b"[" * 500,
    b"2020-13-45",
    b"!!timestamp x",
    b"!!int ''",
    b"!!bool x",
    b"!!float x",
    b"!!python/object/apply:os.getcwd []",
    b"? [a]\n: 1",
    b"1" * 5000,
    b"0x" + b"f" * 5000,
    b"a: &a [*a]",
    b"a: !!binary \xc3\xa4",
    # ten lines that stand for 10^9 values
    b"a0: &a0 [x]\n"
    + b"".join(
        b"a%d: &a%d [%s]\n" % (n, n, b",".join(10 * [b"*a%d" % (n - 1)])) for n in range(1, 10)
    ),
)


def yaml_files(content: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Files that are YAML with this content, YAML with anything, nearly YAML, or bytes."""
    dumped = content.map(lambda value: yaml.safe_dump(value).encode())
    return st.one_of(
        dumped,
        dumped.flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end])),
        ANYTHING.map(lambda value: yaml.safe_dump(value).encode()),
        st.text("a1:-[]{}&*!|>'\"%@#?, \n.0x<~", max_size=40).map(str.encode),
        st.binary(max_size=40),
        st.sampled_from(BAD_YAML),
    )


@given(ANYTHING | _STAGES)
@example({})
@example({"tracker": {"max_age_s": 10**400}})
def settings_values(values: Any) -> None:
    """Settings of the type and range that they promise."""
    with only(ValueError):
        config = from_dict(PipelineConfig, values)
        assert from_dict(PipelineConfig, {}) == PipelineConfig()
        assert isinstance(config.tracker.max_age_s, float)


def _parameters(content: Any, section: Any = "emotion_node") -> dict[Any, Any]:
    return {section: {"ros__parameters": content}}


_SECTIONS = st.sampled_from(["/**", "emotion_node", "x"])


@given(yaml_files(st.builds(_parameters, _STAGES | ANYTHING, _SECTIONS)))
@example(b"")
@example(BAD_YAML[-1])
@example(b"emotion_node:\n  ros__parameters: 3\n")
@example(b"emotion_node:\n  ros__parameters: {tracker: [], tracker.min_hits: 3}\n")
@example(b"emotion_node:\n  ros__parameters: {tracker: {min_hits: 2}, tracker.min_hits: 3}\n")
def parameter_file(content: bytes) -> None:
    """``--params`` takes it or says in one line why not."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    (option,) = [action for action in parser._actions if action.dest == "params"]
    assert callable(option.type)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(content)
        with only(argparse.ArgumentTypeError):
            assert isinstance(option.type(str(path)), PipelineConfig)
