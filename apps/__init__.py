"""The applications that the service is made of."""
