"""Chat with a system prompt and the history that the client sends."""

from typing import Annotated, Any

from django.conf import settings
from langchain_core.messages import (
    AnyMessage,
    BaseMessage,
    HumanMessage,
    convert_to_messages,
)
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import Field
from typing_extensions import TypedDict

from chat.chains.build_context import BuildContext
from chat.chains.prompted_model import PromptedModel
from chat.chains.system_messages import with_system_prompt


class AssistantInput(TypedDict):
    """The messages so far, the user's last."""

    messages: Annotated[list[AnyMessage], Field(min_length=1, max_length=settings.MAX_MESSAGES)]


Text = Annotated[str, Field(min_length=1, max_length=settings.MAX_CONTENT_CHARS)]


def build(chain: BuildContext) -> Runnable[Any, Any]:
    """Return a runnable from `{"messages": [...]}` or a string to the model's message."""

    def to_messages(value: AssistantInput | str) -> list[BaseMessage]:
        messages: list[BaseMessage] = (
            [HumanMessage(value)]
            if isinstance(value, str)
            else convert_to_messages(value["messages"])
        )
        return with_system_prompt(chain.system_prompt, messages)

    prompt = RunnableLambda(to_messages, name="prompt").with_types(
        input_type=AssistantInput | Text  # type: ignore[arg-type]
    )
    return PromptedModel.of(prompt, to_messages, chain.model)
