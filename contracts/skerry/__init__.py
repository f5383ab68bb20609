"""The one command, `skerry`: finds the sub-command's package and loads nothing else."""
