"""A job's events as those of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.responses.bodies import message_id, message_item, refusal_part, text_part

TERMINAL = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    # OpenAI has no event for it; the status of the response inside is `cancelled`.
    "cancelled": "response.incomplete",
}


class ResponseEventBuilder:
    """Builds the events of the Responses API from a job's stored events, one by one.

    Invariant: an event and its `sequence_number` are a function of the response as it was queued,
    of the stored events and of the output of a job that succeeded. None of these changes, so every
    node builds the same events, and those after any number are found by building them from the
    beginning.

    A later attempt starts its text again. As long as it repeats the text that was sent of an
    earlier one, there is no event; text that goes beyond is sent as further deltas. Where it
    differs, the item is closed as `incomplete` and the text goes on from its beginning in a new
    item, at the next `output_index`, which replaces it. The response at the end holds the last item
    alone; a later `GET` calls it by the first item's id.
    """

    def __init__(self, queued: Mapping[str, Any]) -> None:
        self._queued = queued
        self._digits = str(queued["id"]).partition("_")[2]
        self._number = 0
        # The text of the present attempt, and the part that was sent of the open item.
        self._text = ""
        self._sent = ""
        self._index = 0
        self._is_open = False
        # Whether the open item has a text that is not ended.
        self._has_text = False

    def begin(self) -> Iterator[dict[str, Any]]:
        """Yield the events that precede every stored event."""
        yield self._event("response.created", response=self._queued)
        yield self._event("response.queued", response=self._queued)

    def add(self, kind: str, data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the events for a stored one that is not `done`; progress has no number."""
        if kind == "status":
            is_running = data["status"] == "running"
            status = "in_progress" if is_running else "queued"
            if is_running:
                self._text = ""
            yield self._event(f"response.{status}", response={**self._queued, "status": status})
        elif kind == "tokens":
            self._text += data["text"]
            yield from self._extend(self._text)

    def end(self, status: str, final: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the events for `done`, the response's terminal event as the last.

        `status` is the response's; `final` is the full response, of which only the output of one
        that is completed or incomplete bears on the numbers.
        """
        output = list(final["output"]) if status in ("completed", "incomplete") else []
        calls = [item for item in output if item["type"] == "function_call"]
        message = next((item for item in output if item["type"] == "message"), None)
        if message is not None:
            yield from self._finish_message(message["content"])
            message = {**message, "id": self._item_id}
            yield from self._close(message["status"], message["content"])
        else:
            yield from self._close("incomplete")
        for call in calls:
            yield from self._call(call)
        items = [message, *calls] if message else calls
        yield self._event(TERMINAL[status], response={**final, "output": items})

    @property
    def _item_id(self) -> str:
        return message_id(self._digits, self._index)

    def _extend(self, text: str, *, is_final: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the events that bring the open item to a text, which is final or may grow."""
        if self._sent.startswith(text) and not is_final:
            return
        if not text.startswith(self._sent):
            yield from self._close("incomplete")
        if not self._is_open:
            yield from self._open()
        if delta := text[len(self._sent) :]:
            self._sent = text
            yield self._text_event("response.output_text.delta", delta=delta, logprobs=[])

    def _open(self, *, has_text: bool = True) -> Iterator[dict[str, Any]]:
        self._is_open, self._has_text = True, has_text
        item = message_item(self._item_id, [], status="in_progress")
        yield self._event("response.output_item.added", output_index=self._index, item=item)
        if has_text:
            yield self._text_event("response.content_part.added", part=text_part(""))

    def _finish_message(self, parts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the events that bring the open item to its final text, and of a refusal."""
        first, last = parts[0], parts[-1]
        if first["type"] == "output_text":
            yield from self._extend(first["text"], is_final=True)
            yield from self._end_text(first)
        elif self._has_text:
            # An earlier attempt wrote text.
            yield from self._close("incomplete")
        if last["type"] == "refusal":
            if not self._is_open:
                yield from self._open(has_text=False)
            yield from self._refuse(last, content_index=len(parts) - 1)

    def _refuse(self, part: Mapping[str, Any], *, content_index: int) -> Iterator[dict[str, Any]]:
        location = {
            "item_id": self._item_id,
            "output_index": self._index,
            "content_index": content_index,
        }
        words = part["refusal"]
        yield self._event("response.content_part.added", **location, part=refusal_part(""))
        yield self._event("response.refusal.delta", **location, delta=words)
        yield self._event("response.refusal.done", **location, refusal=words)
        yield self._event("response.content_part.done", **location, part=part)

    def _end_text(self, part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield self._text_event("response.output_text.done", text=part["text"], logprobs=[])
        yield self._text_event("response.content_part.done", part=part)
        self._has_text = False

    def _close(
        self, status: str, parts: Sequence[dict[str, Any]] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the events that end the open item, of which the text is ended if it is not."""
        if not self._is_open:
            return
        if self._has_text:
            yield from self._end_text(text_part(self._sent))
        parts = [text_part(self._sent)] if parts is None else list(parts)
        item = message_item(self._item_id, parts, status=status)
        yield self._event("response.output_item.done", output_index=self._index, item=item)
        self._is_open = False
        self._sent = ""
        self._index += 1

    def _call(self, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        location = {"item_id": call["id"], "output_index": self._index}
        started = {**call, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=self._index, item=started)
        yield self._event(
            "response.function_call_arguments.delta", **location, delta=call["arguments"]
        )
        yield self._event(
            "response.function_call_arguments.done",
            **location,
            name=call["name"],
            arguments=call["arguments"],
        )
        yield self._event("response.output_item.done", output_index=self._index, item=call)
        self._index += 1

    def _text_event(self, kind: str, **more: Any) -> dict[str, Any]:
        location = {"item_id": self._item_id, "output_index": self._index, "content_index": 0}
        return self._event(kind, **location, **more)

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        number = self._number
        self._number += 1
        return {"type": kind, "sequence_number": number, **more}
