"""Every property by its name."""

from collections.abc import Callable

from fuzz import bags, faces, images, labels, models, settings

PROPERTIES: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        images.raw_image,
        images.compressed_image,
        settings.settings_values,
        settings.parameter_file,
        models.model_card,
        models.weights_file,
        labels.label_csv,
        labels.label_yaml,
        labels.labelled_faces,
        bags.recording,
        bags.recording_metadata,
        faces.any_detections,
        faces.any_probabilities,
    )
}
