"""The values of a model's `read_scope`: the writes that a read of it must not miss."""

ACCOUNT = "account"
SHARED = "shared"
