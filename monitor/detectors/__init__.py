"""Bag to scores: the detectors, their mean, and the artefact that holds them."""
