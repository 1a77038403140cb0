"""Dependencies between experiments."""

from pathlib import Path

import pytest
import yaml

from training import experiment_graph

FOLDERS = {"pretrain_first": "pretraining", "pretrain_faces": "pretraining", "points": "landmarks"}
MODEL = "runs/{0}/model/{0}/weights.safetensors"


@pytest.fixture(autouse=True)
def configs(tmp_path, monkeypatch):
    """Files of experiments that build on each other."""
    monkeypatch.setattr(experiment_graph, "CONFIGS", tmp_path)
    trunk = "runs/pretrain_faces/backbone.safetensors"
    files = {
        "pretrain_first": {"backbone": "vits8"},
        "pretrain_faces": {
            "backbone": "vits8",
            "weights": "runs/pretrain_first/backbone.safetensors",
        },
        "points": {},
        "two_streams": {"network": {"landmarks": "runs/points/landmarks.safetensors"}},
        "alone": {},
        "elsewhere": {"network": {"image_weights": "runs.pth"}},
        "older": {"network": {"image_weights": trunk}},
        "newer": {"network": {"image_weights": MODEL.format("older")}},
        "again": {"network": {"model": "runs/older/model/older"}},
        "averaged": {
            "network": {
                "image_weights": MODEL.format("older"),
                "average_with": [MODEL.format("newer"), "given.pth"],
            }
        },
        "student": {
            "network": {"image_weights": MODEL.format("newer")},
            "data": {
                "train": [{"dataset": "faces", "teacher_weight": 0.5}],
                "teachers": ["runs/older/model/older", "models/given", "runs/alone/model/alone"],
            },
        },
    }
    for name, values in files.items():
        folder = tmp_path / FOLDERS.get(name, "full")
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alone", ["alone"]),
        ("two_streams", ["points", "two_streams"]),
        ("elsewhere", ["elsewhere"]),
        ("pretrain_faces", ["pretrain_first", "pretrain_faces"]),
        ("older", ["pretrain_first", "pretrain_faces", "older"]),
        ("averaged", ["pretrain_first", "pretrain_faces", "older", "newer", "averaged"]),
        ("again", ["pretrain_first", "pretrain_faces", "older", "again"]),
        ("student", ["pretrain_first", "pretrain_faces", "older", "newer", "alone", "student"]),
    ],
)
def test_dependencies_come_first_and_once(name, expected):
    assert experiment_graph.resolve_dependencies(name) == expected


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "full" / "alone.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"alone\.yaml"):
        experiment_graph.resolve_dependencies("student")


def test_results_are_read_from_the_output_folder():
    out = Path("out")
    student = experiment_graph.rebase_paths(experiment_graph.read_experiment("student"), out)
    assert student.network.image_weights == "out/newer/model/newer/weights.safetensors"
    assert student.data.teachers == [
        "out/older/model/older",
        "models/given",
        "out/alone/model/alone",
    ]
    averaged = experiment_graph.rebase_paths(experiment_graph.read_experiment("averaged"), out)
    assert averaged.network.average_with == [
        "out/newer/model/newer/weights.safetensors",
        "given.pth",
    ]
    faces = experiment_graph.rebase_paths(experiment_graph.read_experiment("pretrain_faces"), out)
    assert faces.weights == "out/pretrain_first/backbone.safetensors"
    again = experiment_graph.rebase_paths(experiment_graph.read_experiment("again"), out)
    assert again.network.model == "out/older/model/older"
    elsewhere = experiment_graph.read_experiment("elsewhere")
    assert experiment_graph.rebase_paths(elsewhere, out) == elsewhere
