"""YAML documents of limited size and depth."""

from typing import Any

import yaml

from fer_ros.io.errors import single_line

# PyYAML raises these for invalid dates, numbers and tags, and for deep nesting.
_YAML_ERRORS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
_MAX_YAML_BYTES = 2**21  # the parsed document can take hundreds of times as much


def parse_yaml(content: bytes, allow_aliases: bool = False) -> Any:
    """Parse a YAML document of at most 2 MiB.

    Some hundred bytes of nested aliases can expand to more than fits into memory, and ROS takes
    none in parameter files. Only callers that copy single values may allow them.

    Raises:
        ValueError: one line.
    """
    if len(content) > _MAX_YAML_BYTES:
        raise ValueError(f"expected YAML of at most {_MAX_YAML_BYTES} bytes, found {len(content)}")
    try:
        return yaml.load(content, yaml.SafeLoader if allow_aliases else _NoAliasLoader)
    except (yaml.YAMLError, *_YAML_ERRORS) as error:
        raise ValueError(f"not a YAML file: {single_line(error)}") from None


class _NoAliasLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            problem = f"alias *{event.anchor} is not supported: write its value out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)
