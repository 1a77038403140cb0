"""Subscribers to images and faces."""
