"""Django's PostgreSQL backend, with connections tracked for the routing of reads."""
