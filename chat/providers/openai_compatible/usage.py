"""Token counts, from the shapes in which servers report them."""

from __future__ import annotations

from typing import Any

from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

# Larger numbers are no counts of tokens.
MAX_TOKENS = 2**53


def usage_metadata(usage: Any) -> UsageMetadata | None:
    """Return a usage as LangChain's; None where nothing was reported."""
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    if prompt is None and completion is None:
        return None
    total = _count(usage.get("total_tokens"))
    metadata = UsageMetadata(
        input_tokens=prompt or 0,
        output_tokens=completion or 0,
        total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
    )
    of_prompt = _details(usage.get("prompt_tokens_details"))
    of_completion = _details(usage.get("completion_tokens_details"))
    inputs: InputTokenDetails = {}
    if (audio := of_prompt.get("audio_tokens")) is not None:
        inputs["audio"] = audio
    if (cached := of_prompt.get("cached_tokens")) is not None:
        inputs["cache_read"] = cached
    outputs: OutputTokenDetails = {}
    if (audio := of_completion.get("audio_tokens")) is not None:
        outputs["audio"] = audio
    if (reasoning := of_completion.get("reasoning_tokens")) is not None:
        outputs["reasoning"] = reasoning
    if inputs:
        metadata["input_token_details"] = inputs
    if outputs:
        metadata["output_token_details"] = outputs
    return metadata


def _details(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {name: count for name, raw in value.items() if (count := _count(raw)) is not None}


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MAX_TOKENS else None
