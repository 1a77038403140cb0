"""``--params`` and ``--model``: configure the pipeline like the node."""

import argparse
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from fer_ros.config import ClassifierConfig, PipelineConfig, from_dict
from fer_ros.io.yaml_file import parse_yaml
from fer_ros.suggestions import did_you_mean

_NODE_NAME = "emotion_node"
_STAGES = {setting.name for setting in fields(PipelineConfig) if is_dataclass(setting.type)}
_SINGLE_SETTINGS = {setting.name for setting in fields(PipelineConfig)} - _STAGES

_QOS_OVERRIDES = "qos_overrides"  # of ROS, for topics
_MIN_SIMILARITY = 0.8  # image_transport of the node is no misspelled image_rotation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add both options to a command."""
    parser.add_argument(
        "--params",
        metavar="FILE",
        type=_read_config,
        default=PipelineConfig(),
        help="ROS 2 parameter file of the node, such as config/fer.yaml",
    )
    parser.add_argument(
        "--model", metavar="NAME", help=f"default: that of --params, or {ClassifierConfig.model}"
    )


def pipeline_config(args: argparse.Namespace) -> PipelineConfig:
    """Pipeline settings of the args. ``--model`` overrides the file."""
    config: PipelineConfig = args.params
    if args.model is None:
        return config
    return replace(config, classifier=replace(config.classifier, model=args.model))


def _read_config(path: str) -> PipelineConfig:
    """Read the pipeline settings of a ROS 2 parameter file, without those of the node alone."""
    try:
        content = _parse_file(path)
        return from_dict(PipelineConfig, _pipeline_values(content, path), path)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse_file(path: str) -> Any:
    try:
        return parse_yaml(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _pipeline_values(content: Any, path: str) -> dict[str, Any]:
    """Nested settings. The file may use dotted names as well."""
    values: dict[str, Any] = {}
    sections = content.items() if isinstance(content, dict) else ()
    sections_of_node = [
        part for name, part in sections if str(name).split("/")[-1] in (_NODE_NAME, "**", "*")
    ]
    if not sections_of_node or not all(
        isinstance(part, dict) and "ros__parameters" in part for part in sections_of_node
    ):
        expected = f"'/**:' or '{_NODE_NAME}:' with 'ros__parameters:'"
        raise ValueError(f"{path}: expected {expected}, found neither")
    for part in sections_of_node:
        parameters = part["ros__parameters"] or {}
        if not isinstance(parameters, dict):
            kind = type(parameters).__name__
            raise ValueError(f"{path}: ros__parameters: expected a mapping, found {kind}")
        _check_names(parameters, path)
        for name, value in parameters.items():
            stage, _, key = str(name).partition(".")
            if stage == _QOS_OVERRIDES:
                continue
            if stage in _SINGLE_SETTINGS:
                values[name] = value
            elif key:
                values.setdefault(stage, {})[key] = value
            elif isinstance(value, dict):
                values.setdefault(stage, {}).update(value)
            elif stage in _STAGES and value is not None:
                kind = type(value).__name__
                raise ValueError(f"{path}: {stage}: expected a mapping, found {kind}")
    return values


def _check_names(parameters: dict[Any, Any], path: str) -> None:
    """Raise ValueError for a setting that is given twice, and for a misspelled one.

    The section may have parameters of the node alone or of other nodes.
    """
    known = _STAGES | _SINGLE_SETTINGS
    for name, value in parameters.items():
        if name not in known and not isinstance(value, dict):
            hint = did_you_mean(str(name), known, "", _MIN_SIMILARITY)
            if hint:
                raise ValueError(f"{path}: unknown key {name!r}; {hint}")
        keys = value if name in _STAGES and isinstance(value, dict) else ()
        twice = next((f"{name}.{key}" for key in keys if f"{name}.{key}" in parameters), None)
        if twice:
            raise ValueError(f"{path}: {twice}: given twice, dotted and nested; remove one")
