"""The pages people see: labelling, pipelines, registry, lineage."""
