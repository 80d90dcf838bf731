"""The response cache: entries, keys and policies, its two tiers, and single flight."""
