"""Parts of request and response bodies that several APIs have."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field


def _without_nul(text: str) -> str:
    # PostgreSQL cannot store it.
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


StoredText = Annotated[str, AfterValidator(_without_nul)]
Metadata = Annotated[
    dict[
        Annotated[StoredText, Field(min_length=1, max_length=64)],
        Annotated[StoredText, Field(max_length=512)],
    ],
    Field(max_length=16, fail_fast=True),
]


class PromptDetails(BaseModel):
    """Of the prompt's tokens, those that the provider had cached."""

    cached_tokens: int


class CompletionDetails(BaseModel):
    """Of the completion's tokens, those of the reasoning."""

    reasoning_tokens: int


class UsageBody(BaseModel):
    """Token counts, as the provider reported them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
