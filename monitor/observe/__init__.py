"""Metrics, health, logs: what says whether silence means calm."""
