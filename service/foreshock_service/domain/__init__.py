"""The words of the service as frozen values: frames, findings, incidents, deliveries."""
