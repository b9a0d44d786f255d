"""Who runs a run: this machine, or a cluster."""
