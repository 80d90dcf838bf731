"""Jobs as OpenAI's Response objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chat.inputs.openai_answers import answer_text
from chat.inputs.tool_calls import parsed_arguments
from config.api.ids import to_public_id
from jobs.models import Job
from jobs.responses.requests import REPEATED
from jobs.schemas import usage_of

PREFIX = "resp"
STATUSES = {
    Job.Status.QUEUED: "queued",
    Job.Status.RUNNING: "in_progress",
    Job.Status.SUCCEEDED: "completed",
    Job.Status.FAILED: "failed",
    Job.Status.CANCELLED: "cancelled",
}
# OpenAI's clients accept only these and `server_error`.
ERROR_CODES = {
    "provider_overloaded": "rate_limit_exceeded",
    "tokens_per_day_exceeded": "rate_limit_exceeded",
    "context_length_exceeded": "invalid_prompt",
    "string_above_max_length": "invalid_prompt",
    "content_filter": "invalid_prompt",
    "content_policy_violation": "invalid_prompt",
    "provider_rejected_request": "invalid_prompt",
}
INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_id(job: Job) -> str:
    """Return `resp_` and the job's digits."""
    return to_public_id(PREFIX, job.pk)


def response_body(job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as a ResponseBody; `request` is the result of job_request."""
    is_done = job.status == Job.Status.SUCCEEDED
    reason = INCOMPLETE_REASONS.get(_finish_reason(job)) if is_done else None
    finished_at = job.finished_at
    return {
        "id": response_id(job),
        "object": "response",
        "created_at": int(job.created_at.timestamp()),
        "completed_at": int(finished_at.timestamp()) if is_done and finished_at else None,
        "status": "incomplete" if reason else STATUSES[Job.Status(job.status)],
        "background": request["background"],
        "error": _error(job),
        "incomplete_details": {"reason": reason} if reason else None,
        **{name: request[name] for name in REPEATED},
        "metadata": job.metadata,
        "model": job.chain.slug,
        "output": _output(job, is_complete=reason is None) if is_done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": True,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "usage": _usage(job),
    }


def queued_body(job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that a job had when it was queued, in any state."""
    return {
        **response_body(job, request),
        "status": "queued",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }


def message_id(digits: str, index: int = 0) -> str:
    """Return the id of the message at an index of the output."""
    return f"msg_{digits}_{index}" if index else f"msg_{digits}"


def message_item(item_id: str, parts: list[dict[str, Any]], *, status: str) -> dict[str, Any]:
    """Return an output message."""
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def text_part(text: str, annotations: Sequence[Any] = ()) -> dict[str, Any]:
    """Return a part of an output message that is text."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": list(annotations),
        "logprobs": [],
    }


def refusal_part(words: str) -> dict[str, Any]:
    """Return a part of an output message in which the model refused."""
    return {"type": "refusal", "refusal": words}


def _call_status(arguments: str) -> str:
    # A call that was cut off is shown as far as it came.
    return "incomplete" if parsed_arguments(arguments) is None else "completed"


def _output(job: Job, *, is_complete: bool) -> list[dict[str, Any]]:
    """Return a message, unless there are only tool calls, and the tool calls."""
    digits = job.pk.hex
    message = _message(job)
    calls = [
        {
            "id": f"fc_{digits}_{index}",
            "type": "function_call",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
            "status": _call_status(call["function"]["arguments"]),
        }
        for index, call in enumerate(message.get("tool_calls", []))
    ]
    text = str(message["content"]) if message else answer_text(job.output)
    refusal = message.get("refusal")
    parts = [refusal_part(refusal)] if refusal else []
    if calls and not (text or parts):
        return calls
    if text or not parts:
        parts.insert(0, text_part(text, message.get("annotations", [])))
    status = "completed" if is_complete else "incomplete"
    return [message_item(message_id(digits), parts, status=status), *calls]


def _message(job: Job) -> dict[str, Any]:
    """Return an output that the runner made of a message, else an empty one."""
    output: Any = job.output
    is_message = (
        isinstance(output, dict)
        and output.get("role") == "assistant"
        and isinstance(output.get("content"), str)
    )
    return dict(output) if is_message else {}


def _finish_reason(job: Job) -> str:
    return str(_message(job).get("finish_reason"))


def _error(job: Job) -> dict[str, str] | None:
    # A job that waits for its next attempt holds the error of its last.
    if job.status != Job.Status.FAILED:
        return None
    return {
        "code": ERROR_CODES.get(job.error_code, "server_error"),
        "message": job.error_message,
        "type": job.error_code,
    }


def _usage(job: Job) -> dict[str, Any] | None:
    if (usage := usage_of(job)) is None:
        return None
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
