"""Failed logins of staff, counted by user and address (docs/adr/0017)."""
