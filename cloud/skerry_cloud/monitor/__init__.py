"""Watching a model: has its input changed, is it still as good as promised. Thresholds are calibrated, never typed."""
