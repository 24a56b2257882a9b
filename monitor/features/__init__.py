"""Segment to feature: the backbones."""
