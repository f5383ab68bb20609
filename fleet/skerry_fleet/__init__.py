"""The fleet manager: devices, registry, rollouts, ingest, alerts, audit, dashboard."""
