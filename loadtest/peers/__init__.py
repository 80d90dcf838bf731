"""The peers that Headrace is compared with."""
