"""What the probes found, as tables and plots."""
