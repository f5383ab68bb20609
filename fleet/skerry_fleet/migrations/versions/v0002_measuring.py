"""Leases of boards for measuring, and the performance database."""

from __future__ import annotations

from sqlalchemy import MetaData

from skerry_fleet.migrations.frozen import create, index, table

revision = "0002"
down_revision = "0001"
M = MetaData()

table(
    M,
    "measure_lease",
    "tenant id",
    string="tenant id profile wanted device source_sha256 bundle status told_boot told_state created_by",
    text="requires terms artifacts reason told_detail told_notes",
    big="number renewed_ms until_ms told_seq told_ms created_ms updated_ms",
    integer="told_reported",
)
index(M, "measure_lease_recent", "measure_lease", "tenant number")
index(M, "measure_lease_open", "measure_lease", "status")
index(M, "measure_lease_one", "measure_lease", "tenant device", unique=True, where="status IN ('granted', 'measuring')")
table(
    M,
    "measurement",
    "id",
    once="tenant device boot_id seq",
    optional="speed",
    never_reused=True,
    number="id",
    string="tenant device boot_id lease profile source_sha256 artifact_sha256 candidate engine engine_version precision"
    " outcome against cpu agent_version",
    text="record",
    big="seq received_ms rss_bytes",
    real="speed latency_p50_ms latency_p99_ms",
)
index(M, "measurement_recent", "measurement", "tenant id")
index(M, "measurement_lease", "measurement", "tenant lease")
index(M, "measurement_profile", "measurement", "tenant profile id")
index(M, "measurement_source", "measurement", "tenant source_sha256 id")
index(M, "measurement_age", "measurement", "received_ms")


def upgrade() -> None:
    """Make both."""
    create(list(M.tables.values()))
