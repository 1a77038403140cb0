"""Which experiments come before another."""

from pathlib import Path

import pytest
import yaml

from training import chain

MODEL = "runs/{0}/model/{0}/weights.safetensors"


@pytest.fixture(autouse=True)
def configs(tmp_path, monkeypatch):
    """Files of experiments that build on each other."""
    monkeypatch.setattr(chain, "CONFIGS", tmp_path)
    trunk = "runs/pretrain_faces/trunk.safetensors"
    files = {
        "pretrain_first": {"stream": "vits8"},
        "pretrain_faces": {"stream": "vits8", "weights": "runs/pretrain_first/trunk.safetensors"},
        "alone": {},
        "elsewhere": {"network": {"image_weights": "runs.pth"}},
        "older": {"network": {"image_weights": trunk}},
        "newer": {"network": {"image_weights": MODEL.format("older")}},
        "again": {"network": {"model": "runs/older/model/older"}},
        "student": {
            "network": {"image_weights": MODEL.format("newer")},
            "data": {
                "train": [{"pack": "faces", "taught": 0.5}],
                "teachers": ["runs/older/model/older", "models/given", "runs/alone/model/alone"],
            },
        },
    }
    for name, values in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alone", ["alone"]),
        ("elsewhere", ["elsewhere"]),
        ("pretrain_faces", ["pretrain_first", "pretrain_faces"]),
        ("older", ["pretrain_first", "pretrain_faces", "older"]),
        ("again", ["pretrain_first", "pretrain_faces", "older", "again"]),
        ("student", ["pretrain_first", "pretrain_faces", "older", "newer", "alone", "student"]),
    ],
)
def test_what_an_experiment_builds_on_comes_first_and_once(name, expected):
    assert chain.chain(name) == expected


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "alone.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"alone\.yaml"):
        chain.chain("student")


def test_outcomes_are_looked_for_where_they_were_left():
    out = Path("out")
    student = chain.with_outcomes_in(chain.read_experiment("student"), out)
    assert student.network.image_weights == "out/newer/model/newer/weights.safetensors"
    assert student.data.teachers == [
        "out/older/model/older",
        "models/given",
        "out/alone/model/alone",
    ]
    faces = chain.with_outcomes_in(chain.read_experiment("pretrain_faces"), out)
    assert faces.weights == "out/pretrain_first/trunk.safetensors"
    again = chain.with_outcomes_in(chain.read_experiment("again"), out)
    assert again.network.model == "out/older/model/older"
    elsewhere = chain.read_experiment("elsewhere")
    assert chain.with_outcomes_in(elsewhere, out) == elsewhere
