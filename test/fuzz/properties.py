"""Every property by its name."""

from collections.abc import Callable

from fuzz import bags, datasets, faces, images, labels, media, models, settings, sources

PROPERTIES: dict[str, Callable[[], None]] = {
    prop.__name__: prop
    for prop in (
        images.raw_image,
        images.compressed_image,
        settings.settings_values,
        settings.parameter_file,
        models.model_manifest,
        models.weights_file,
        media.image_file,
        media.video_file,
        media.animated_file,
        labels.label_csv,
        labels.label_rows_are_complete,
        labels.label_yaml,
        labels.labeled_faces,
        bags.recording,
        bags.recording_metadata,
        faces.any_detections,
        faces.any_probabilities,
        sources.source_ferplus_csv,
        sources.source_ferplus,
        sources.source_affectnet_csv,
        sources.source_affectnet,
        sources.source_folders,
        sources.source_csv,
        sources.source_parquet,
        sources.source_300w,
        sources.source_wflw,
        datasets.dataset_shard,
        datasets.dataset_metadata,
    )
}
