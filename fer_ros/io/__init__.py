"""Images, media, messages and files in; results out."""
