"""Summarize a document of any length: each part alone, then the summaries together."""

import logging
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator, RunnableLambda
from typing_extensions import TypedDict

from chat.chains.build_context import BuildContext
from chat.chains.splitting import split, weight
from chat.errors import ChainBroken
from chat.running.run import report_progress
from config.api.errors import InvalidRequest
from config.slices import in_slices

logger = logging.getLogger(__name__)

DEFAULT_PROMPT = "You summarize documents truthfully, in plain and short sentences."
PART_PROMPT = "Summarize this part of a longer document in at most five sentences:\n\n{text}"
TEXT_PROMPT = "Write one summary of this document:\n\n{text}"
# A part's summary may be a quarter of the part, at some four characters a token; so every round
# of summaries of summaries is shorter than the one before.
CHARS_PER_SUMMARY_TOKEN = 16
SLICE_PARTS = 100


class SummarizeInput(TypedDict):
    """The document as plain text."""

    text: str


def build(chain: BuildContext) -> Runnable[Any, Any]:
    """Return a runnable from `{"text": ...}` to a summary, whose last step streams.

    The text is cut at paragraphs and sentences into parts of SUMMARIZE_PART_CHARS, of which
    SUMMARIZE_CONCURRENCY are summarized at a time. Progress counts the parts done.
    """
    size = settings.SUMMARIZE_PART_CHARS
    part_tokens = max(32, size // CHARS_PER_SUMMARY_TOKEN)
    summarize_part = _summarizer(chain, PART_PROMPT, max_tokens=part_tokens)
    summarize_text = _summarizer(chain, TEXT_PROMPT)

    def summarize_parts(parts: list[str], config: RunnableConfig) -> list[str]:
        summaries = [""] * len(parts)
        limited: RunnableConfig = {**config, "max_concurrency": settings.SUMMARIZE_CONCURRENCY}
        report_progress(0, len(parts), "summarizing the parts")
        for done, (index, summary) in enumerate(
            summarize_part.batch_as_completed(parts, limited), start=1
        ):
            summaries[index] = summary
            report_progress(done, len(parts), "summarizing the parts")
        return summaries

    def summarize(inputs: Iterator[SummarizeInput], config: RunnableConfig) -> Iterator[str]:
        text = _only(inputs)["text"].strip()
        if not text:
            raise InvalidRequest("There is no text to summarize.", param="input.text")
        while len(parts := list(in_slices(split(text, size), SLICE_PARTS))) > 1:
            shorter = "\n\n".join(summarize_parts(parts, config))
            if weight(shorter) >= weight(text):
                logger.warning("%s: summaries of %d parts are not shorter", chain.slug, len(parts))
                raise ChainBroken
            text = shorter
        yield from summarize_text.stream(text, config)

    # RunnableGenerator's types leave out the `config` that LangChain passes to such a function.
    generator: Runnable[Any, Any] = RunnableGenerator(summarize, name="summarize")  # type: ignore[arg-type]
    return generator.with_types(input_type=SummarizeInput, output_type=str)


def _summarizer(chain: BuildContext, prompt: str, **bound: Any) -> Runnable[str, str]:
    def to_messages(text: str) -> list[BaseMessage]:
        return [
            SystemMessage(chain.system_prompt or DEFAULT_PROMPT),
            HumanMessage(prompt.format(text=text)),
        ]

    model = chain.model.bind(**bound) if bound else chain.model
    return RunnableLambda(to_messages, name="prompt") | model | StrOutputParser()


def _only(inputs: Iterator[SummarizeInput]) -> SummarizeInput:
    """Join the chunks in which a streaming parent may pass the input."""
    return {"text": "".join(value["text"] for value in inputs)}
