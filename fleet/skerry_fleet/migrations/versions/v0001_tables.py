"""The tables of the first version that had steps: what `create_all` made until then, on either database."""

from __future__ import annotations

from sqlalchemy import MetaData

from skerry_fleet.migrations.frozen import create, index, table

revision = "0001"
down_revision = None
M = MetaData()

table(
    M,
    "alert",
    "id",
    never_reused=True,
    number="id",
    string="tenant kind subject severity state acknowledged_by",
    text="text",
    big="first_ms last_ms",
    integer="count",
)
index(M, "alert_open", "alert", "tenant kind subject state")
index(M, "alert_recent", "alert", "tenant id")
table(
    M,
    "api_key",
    "id",
    optional="revoked_ms",
    string="id tenant name role secret_sha256 created_by",
    big="created_ms revoked_ms",
)
index(M, "ix_api_key_tenant", "api_key", "tenant")
table(
    M,
    "audit",
    "tenant seq",
    number="seq",
    string="tenant actor action object request previous_hash hash",
    text="before after",
    big="time_ms",
)
index(M, "audit_object", "audit", "tenant object seq")
table(M, "audit_head", "tenant", string="tenant hash", big="seq")
table(
    M,
    "bundle",
    "tenant id",
    optional="evidence",
    string="tenant id model version target state created_by",
    text="manifest evidence",
    big="release size_bytes created_ms",
)
index(M, "bundle_version", "bundle", "tenant model target version", unique=True)
table(
    M,
    "claim",
    "tenant id",
    string="tenant id secret_sha256 group created_by",
    big="uses uses_left created_ms expires_ms",
    boolean="revoked",
)
table(
    M,
    "dead_letter",
    "id",
    never_reused=True,
    number="id",
    string="tenant device",
    text="topic reason",
    big="size_bytes received_ms",
    blob="payload",
)
table(
    M,
    "desired",
    "tenant device model",
    optional="bundle confirmed",
    string="tenant device model bundle confirmed rollout",
    boolean="allow_downgrade",
)
table(
    M,
    "device",
    "tenant name",
    string="tenant name status claim public_key_sha256 download_token_sha256",
    text="certificate_pem next_certificate_pem hardware tags",
    big="created_ms renewed_ms sequence",
)
index(M, "ix_device_download_token_sha256", "device", "download_token_sha256")
table(M, "device_group", "tenant name", string="tenant name", text="description", big="created_ms")
table(M, "device_group_member", "tenant group device", string="tenant group device")
index(M, "device_group_member_device", "device_group_member", "tenant device")
table(
    M,
    "device_model",
    "tenant name model",
    optional="mean_confidence",
    string="tenant name model version bundle variant state",
    big="predictions errors restarts rss_bytes updated_ms",
    real="latency_p50_ms latency_p95_ms mean_confidence",
)
index(M, "device_model_version", "device_model", "tenant model version")
table(M, "device_shard", "tenant device", string="tenant device", integer="shard")
table(
    M,
    "device_state",
    "tenant name",
    string="tenant name boot_id heartbeat_boot",
    text="heartbeat",
    big="session last_seen_ms heartbeat_seq",
    boolean="online silent",
)
index(M, "device_state_online", "device_state", "tenant online")
index(M, "device_state_seen", "device_state", "silent last_seen_ms")
table(
    M,
    "drift",
    "tenant model monitor",
    optional="score threshold",
    string="tenant model monitor",
    text="record",
    big="updated_ms",
    boolean="drifting",
    real="score threshold",
)
table(
    M,
    "drift_history",
    "id",
    optional="score",
    never_reused=True,
    number="id",
    string="tenant model monitor",
    big="received_ms",
    boolean="drifting",
    real="score",
)
index(M, "drift_history_line", "drift_history", "tenant model monitor id")
table(M, "feed_cursor", "name", string="name", big="position")
table(M, "model", "tenant name", string="tenant name", text="description", big="created_ms")
table(
    M,
    "progress",
    "id",
    once="tenant device boot_id seq",
    never_reused=True,
    number="id",
    string="tenant device boot_id rollout model bundle phase reason",
    text="detail",
    big="seq received_ms sequence received_bytes total_bytes",
)
index(M, "progress_device", "progress", "tenant device id")
table(
    M,
    "receipt",
    "id",
    once="tenant device boot_id seq",
    never_reused=True,
    number="id",
    string="tenant device boot_id model bundle variant",
    text="record",
    big="seq received_ms",
)
index(M, "receipt_bundle", "receipt", "tenant bundle id")
table(M, "revoked_certificate", "tenant serial", string="tenant serial device", big="expires_ms")
table(
    M,
    "rollout",
    "tenant id",
    optional="request_key",
    string="tenant id model bundle group status request_key request_sha256 created_by",
    text="plan options counts reason",
    big="number created_ms updated_ms",
    integer="stage allowance",
    boolean="active",
)
index(M, "rollout_active", "rollout", "active")
index(M, "rollout_recent", "rollout", "tenant number")
index(M, "rollout_request", "rollout", "tenant request_key", unique=True)
table(
    M,
    "rollout_device",
    "tenant rollout device",
    optional="due_ms previous",
    string="tenant rollout device model place previous phase reason",
    text="baseline detail",
    big="floor since_ms due_ms",
    integer="attempts",
    boolean="active",
)
index(M, "rollout_device_list", "rollout_device", "tenant rollout place device")
index(M, "rollout_device_one", "rollout_device", "tenant model device", unique=True, where="active")
table(
    M,
    "rollout_pair",
    "id",
    optional="error_rate latency confidence",
    number="id",
    string="tenant rollout device control figures",
    big="ended_ms",
    integer="error_rate latency confidence",
)
index(M, "ix_rollout_pair_rollout", "rollout_pair", "rollout")
table(
    M,
    "sample",
    "id",
    once="tenant device boot_id seq",
    never_reused=True,
    number="id",
    string="tenant device boot_id model",
    text="record",
    big="seq received_ms",
)
index(M, "sample_feed", "sample", "tenant id")
table(
    M,
    "shadow",
    "tenant id",
    string="tenant id model bundle group status rollout created_by",
    text="terms reason",
    big="number until_ms created_ms updated_ms",
    boolean="chosen",
)
index(M, "shadow_model", "shadow", "tenant model number")
index(M, "shadow_recent", "shadow", "tenant number")
table(
    M,
    "shadow_device",
    "tenant shadow device",
    string="tenant shadow device model state reason told_boot",
    text="detail",
    big="told_seq told_ms",
    boolean="active",
)
index(M, "shadow_device_one", "shadow_device", "tenant model device", unique=True, where="active")
table(
    M,
    "shadow_report",
    "id",
    once="tenant device boot_id seq",
    never_reused=True,
    number="id",
    string="tenant device boot_id model shadow against",
    text="record",
    big="seq received_ms chosen compared disagreed dropped failed",
    real="cpu_s",
)
index(M, "shadow_report_of", "shadow_report", "tenant shadow id")
table(
    M,
    "signed_assignment",
    "tenant device",
    string="tenant device",
    text="envelope",
    big="sequence issued_ms expires_ms",
    boolean="published",
)
index(M, "signed_assignment_age", "signed_assignment", "issued_ms")
index(M, "signed_assignment_outbox", "signed_assignment", "published")
table(
    M,
    "sketch",
    "id",
    once="tenant device boot_id seq",
    never_reused=True,
    number="id",
    string="tenant device boot_id model",
    text="record",
    big="seq received_ms",
)
index(M, "sketch_feed", "sketch", "tenant id")


def upgrade() -> None:
    """Make all of them."""
    create(list(M.tables.values()))
