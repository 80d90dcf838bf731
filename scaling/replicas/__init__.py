"""Read-your-writes on replicas: routing, backend, health of the servers."""
