"""The Content-Security-Policy of pages."""

from urllib.parse import urlsplit


def content_security_policy(static_url: str) -> str:
    """Return the header for pages whose files are at `static_url`, on this host or another.

    No script and no style stands in a page itself. The charts are SVG, their colours in style
    sheets.
    """
    address = urlsplit(static_url)
    files = f"{address.scheme or 'https'}://{address.netloc}" if address.netloc else "'self'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {files}",
            f"style-src {files}",
            f"font-src {files}",
            # Swagger UI and the admin have small icons inside their style sheets.
            f"img-src {files} data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
