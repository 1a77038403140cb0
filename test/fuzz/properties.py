"""Every property by its name."""

from collections.abc import Callable

from fuzz import bags, faces, images, labels, models, packs, settings, sources

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
        sources.source_ferplus_csv,
        sources.source_ferplus,
        sources.source_affectnet_csv,
        sources.source_affectnet,
        sources.source_folders,
        sources.source_csv,
        sources.source_parquet,
        sources.source_300w,
        sources.source_wflw,
        packs.pack_shard,
        packs.pack_card,
    )
}
