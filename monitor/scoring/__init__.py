"""Rings, bags and the thread that owns the accelerator."""
