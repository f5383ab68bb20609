"""Labelling: jobs, workforces, votes, consolidation, and the choice of what is worth a label."""
