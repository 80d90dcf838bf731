"""What Headrace is measured against."""
