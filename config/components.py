"""Django's parts: apps, middleware, templates and validators of passwords."""

from typing import Any

from config.env import BASE_DIR

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_prometheus",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "scaling",
    "node",
    "access",
    "chat",
    "jobs",
    "fleet",
]

MIDDLEWARE = [
    "node.middleware.RequestIdMiddleware",
    "scaling.replicas.middleware.ReplicaMiddleware",
    "node.middleware.ServiceUnavailableMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # The admin needs these, an API request passes them by.
    "node.page_middleware.ContentSecurity",
    "node.page_middleware.Errors",
    "node.page_middleware.ReadableQuery",
    "node.page_middleware.Sessions",
    "node.page_middleware.Common",
    "node.page_middleware.Csrf",
    "node.page_middleware.Authentication",
    "node.page_middleware.Messages",
    "node.page_middleware.ClickJacking",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
