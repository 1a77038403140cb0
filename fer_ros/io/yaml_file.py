"""YAML documents of limited size and depth."""

import re
from reprlib import repr as short
from typing import Any

import yaml

from fer_ros.io.errors import single_line

# PyYAML raises these for invalid dates, numbers and tags, and for deep nesting.
_YAML_ERRORS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
# Numbers that ROS and YAML 1.2 read alike. Others, such as 010 (octal in ROS) and 1:30 (90 in YAML
# 1.1), are text, which no setting takes for a number.
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
_NUMBERS = {"tag:yaml.org,2002:int": _INT, "tag:yaml.org,2002:float": _FLOAT}
_MAX_YAML_BYTES = 2**21  # the parsed document can take hundreds of times as much


def parse_yaml(content: bytes, allow_aliases: bool = False) -> Any:
    """Parse a YAML document of at most 2 MiB, whose mappings have no key twice.

    Some hundred bytes of nested aliases can expand to more than fits into memory, and ROS takes
    none in parameter files. Only callers that copy single values may allow them.

    Raises:
        ValueError: one line.
    """
    if len(content) > _MAX_YAML_BYTES:
        raise ValueError(f"expected YAML of at most {_MAX_YAML_BYTES} bytes, found {len(content)}")
    try:
        return yaml.load(content, _Loader if allow_aliases else _NoAliasLoader)
    except (yaml.YAMLError, *_YAML_ERRORS) as error:
        raise ValueError(f"not a YAML file: {single_line(error)}") from None


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own attribute)
        first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in resolvers]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in keys:
                problem = f"key {short(key.value)} is given twice: remove one"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            keys.add((key.tag, key.value))
        return node


class _NoAliasLoader(_Loader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            problem = f"alias *{event.anchor} is not supported: write its value out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)
