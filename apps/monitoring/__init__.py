"""Whether the service is well: probes for HTTP and for processes."""
