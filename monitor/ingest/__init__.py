"""Streams in, segments out."""
