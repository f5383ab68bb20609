"""The device daemon: link, trust, update machine, store, workers, local interface, sampler, sketcher, spool, health."""
