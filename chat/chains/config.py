"""A chain's configuration as staff saved it, with the defaults of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings

from scaling.response_cache.policy import CacheMode, CachePolicy, CacheScope

if TYPE_CHECKING:
    from chat.models import Chain


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """One version of a chain's configuration.

    `model_name` and `fallback_models` are named as `init_chat_model` names them; `base_url` ""
    means LLM_BASE_URL for OpenAI-compatible models. `parameters` are arguments of the model's
    LangChain class.
    """

    slug: str
    version: int
    runnable: str
    model_name: str
    base_url: str = ""
    system_prompt: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    timeout_seconds: int = 120
    fallback_models: tuple[str, ...] = ()
    cache: CachePolicy = field(default_factory=CachePolicy)
    caches_model_calls: bool = False
    # The row's primary key; None for a configuration without a row.
    chain_id: int | None = None

    @property
    def revision(self) -> tuple[int | None, int]:
        """The identity of this configuration: another chain may take a slug, and begins at 1."""
        return self.chain_id, self.version


def config_of(chain: Chain) -> ChainConfig:
    """Return a row's configuration, with the defaults of the settings filled in."""
    return ChainConfig(
        slug=chain.slug,
        version=chain.version,
        runnable=chain.runnable,
        model_name=chain.model or settings.LLM_MODEL,
        base_url=chain.base_url,
        system_prompt=chain.system_prompt,
        temperature=chain.temperature,
        max_tokens=chain.max_tokens,
        parameters=dict(chain.parameters),
        timeout_seconds=chain.timeout_seconds,
        fallback_models=tuple(chain.fallback_models),
        cache=CachePolicy(
            mode=CacheMode(chain.cache_mode),
            scope=CacheScope(chain.cache_scope),
            ttl_seconds=chain.cache_ttl_seconds,
            stale_seconds=chain.cache_stale_seconds,
            stale_if_error_seconds=chain.cache_stale_if_error_seconds,
        ),
        caches_model_calls=chain.cache_model_calls,
        chain_id=chain.pk,
    )
