"""``--params``: the settings of the node, for recordings and images."""

import argparse
from pathlib import Path

import pytest
from tree import ROOT

from fer_ros.cli.params import add_arguments, pipeline_config
from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig, SmootherConfig


def parse(*words: object) -> PipelineConfig:
    parser = argparse.ArgumentParser(prog="fer")
    add_arguments(parser)
    return pipeline_config(parser.parse_args([str(word) for word in words]))


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


NESTED = (
    "/**:\n  ros__parameters:\n    results_log_path: faces.jsonl\n    detector: {max_faces: 3}\n"
)
DOTTED = "/robot/emotion_node:\n  ros__parameters: {detector.max_faces: 3}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/**:\n  ros__parameters:\n", PipelineConfig()),
        (NESTED, PipelineConfig(detector=DetectorConfig(max_faces=3))),
        (DOTTED, PipelineConfig(detector=DetectorConfig(max_faces=3))),
        (
            "/**:\n  ros__parameters: {image_rotation: 90, publish_images: true}\n",
            PipelineConfig(image_rotation=90),
        ),
        (
            NESTED + "    use_sim_time: true\n    image_transport: raw\n    cameras: ['']\n"
            "    qos_overrides: {/image: {publisher: {depth: 1}}}\n",
            PipelineConfig(detector=DetectorConfig(max_faces=3)),
        ),
        (
            "/**: {ros__parameters: {detector: {score_threshold: 1e-1}}}",
            PipelineConfig(detector=DetectorConfig(score_threshold=0.1)),
        ),
        (
            NESTED + "camera_node:\n  ros__parameters: {fps: 5.0}\n"
            "emotion_node:\n  ros__parameters:\n    smoother: {reset_after_s: 2.0}\n",
            PipelineConfig(
                detector=DetectorConfig(max_faces=3), smoother=SmootherConfig(reset_after_s=2.0)
            ),
        ),
    ],
)
def test_the_file_of_the_node_is_read(tmp_path, text, expected):
    assert parse("--params", write(tmp_path, text)) == expected


def test_without_a_file_there_are_the_defaults():
    assert parse() == PipelineConfig()
    assert parse("--params", ROOT / "config" / "fer.yaml").classifier == ClassifierConfig()


def test_the_command_line_model_overrides_the_file(tmp_path):
    text = "/**:\n  ros__parameters:\n    classifier: {model: mine, threads: 2}\n"
    path = write(tmp_path, text)
    assert parse("--params", path).classifier == ClassifierConfig(model="mine", threads=2)
    chosen = parse("--params", path, "--model", "other").classifier
    assert chosen == ClassifierConfig(model="other", threads=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected '/**:' or 'emotion_node:' with 'ros__parameters:', found neither"),
        ("- 1", "found neither"),
        ("/**: {detector: {}}", "found neither"),
        ("{", "not a YAML file"),
        (NESTED + "/**: {}\n", "key '/**' is given twice: remove one"),
        (NESTED + "    detector: {}\n", "key 'detector' is given twice"),
        (NESTED.replace("3", "3, max_faces: 4"), "key 'max_faces' is given twice"),
        (NESTED + "    detector.max_faces: 4\n", "detector.max_faces: given twice, dotted and"),
        (NESTED.replace("3", "010"), "detector.max_faces: expected int, found '010' (str)"),
        (NESTED.replace("3", "1:30"), "detector.max_faces: expected int, found '1:30' (str)"),
        (NESTED + "    image_rotaton: 90\n", "key 'image_rotaton'; did you mean 'image_rotation'"),
        (NESTED.replace("detector", "detecter"), "unknown key 'detecter'; did you mean 'detector'"),
        (NESTED.replace("3", "0"), "detector.max_faces: expected 1 to 1000, found 0"),
        (DOTTED.replace("max_faces", "most"), "detector: unknown key 'most'"),
        ("/**: {ros__parameters: {tracker: []}}", "tracker: expected a mapping, found list"),
        ("/**: {ros__parameters: {image_rotation.a: 1}}", "unknown key 'image_rotation.a'"),
        ("/**: {ros__parameters: {image_rotation: {a: 1}}}", "image_rotation: expected"),
    ],
)
def test_an_invalid_file_is_reported_in_one_line_with_its_name(tmp_path, capsys, text, words):
    path = write(tmp_path, text)
    with pytest.raises(SystemExit, match="2"):
        parse("--params", path)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fer: error: argument --params: ")
    assert words in last
    assert str(path) in last


def test_a_missing_file_is_reported(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("--params", tmp_path / "no.yaml")
    assert f"{tmp_path}/no.yaml: No such file or directory" in capsys.readouterr().err
