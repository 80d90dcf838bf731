"""Settings of Django REST framework and of the OpenAPI document."""

from typing import Any

from config.version import VERSION

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["access.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["config.api.json.JsonParser"],
    "DEFAULT_RENDERER_CLASSES": ["config.api.json.JsonRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.api.json.JsonOnly",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Headrace",
    "DESCRIPTION": "LangChain chains over HTTP: OpenAI chat completions and responses, LangServe,"
    " conversations, background jobs.\n\nAnswers to requests that changed something may have a"
    " header `x-headrace-position`. A request that sends it along sees that change, whichever"
    " database server it is read from; an account's own changes are seen without it.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Several components have a field `status` with these values.
    "ENUM_NAME_OVERRIDES": {
        "CompletionStatusEnum": ["completed", "incomplete"],
        "ItemStatusEnum": ["in_progress", "completed", "incomplete"],
    },
}
