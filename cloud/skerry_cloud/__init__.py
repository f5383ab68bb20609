"""Samples to a better model: lake, labels, training, monitors, pipelines, lineage."""
