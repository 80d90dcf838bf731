"""Documents that clients send as files: reading them, and making jobs of them."""
