"""``--params`` and ``--model``: the pipeline as the node would run it."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_ros.config import ClassifierConfig, PipelineConfig, from_dict, parse_yaml

_NODE = "emotion_node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds both to a command."""
    parser.add_argument(
        "--params",
        metavar="FILE",
        type=_pipeline,
        default=PipelineConfig(),
        help="a parameter file of the node, such as config/fer.yaml",
    )
    parser.add_argument(
        "--model", metavar="NAME", help=f"default: that of --params, or {ClassifierConfig.model}"
    )


def pipeline_config(arguments: argparse.Namespace) -> PipelineConfig:
    """What the arguments ask for; ``--model`` wins over the file."""
    config: PipelineConfig = arguments.params
    if arguments.model is None:
        return config
    return replace(config, classifier=replace(config.classifier, model=arguments.model))


def _pipeline(path: str) -> PipelineConfig:
    """The settings of the pipeline in a ROS 2 parameter file; those of the node alone are left."""
    try:
        content = _content(path)
        return from_dict(PipelineConfig, _values(content, path), path)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _content(path: str) -> Any:
    try:
        return parse_yaml(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _values(content: Any, path: str) -> dict[str, Any]:
    """Settings, nested; in the file they may stand under dotted names as well."""
    values: dict[str, Any] = {}
    sections = content.items() if isinstance(content, dict) else ()
    ours = [part for name, part in sections if str(name).split("/")[-1] in (_NODE, "**", "*")]
    if not ours or not all(isinstance(part, dict) and "ros__parameters" in part for part in ours):
        expected = f"'/**:' or '{_NODE}:' with 'ros__parameters:'"
        raise ValueError(f"{path}: expected {expected}, found neither")
    for part in ours:
        parameters = part["ros__parameters"] or {}
        if not isinstance(parameters, dict):
            found = type(parameters).__name__
            raise ValueError(f"{path}: ros__parameters: expected a mapping, found {found}")
        for name, value in parameters.items():
            stage, _, key = str(name).partition(".")
            if key:
                values.setdefault(stage, {})[key] = value
            elif isinstance(value, dict):
                values.setdefault(stage, {}).update(value)
    return values
