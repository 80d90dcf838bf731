"""The same chain behind LangServe: `uvicorn loadtest.peers.langserve_app:app` in its own venv."""

from fastapi import FastAPI
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langserve import add_routes

from loadtest.settings import ANSWER, PROMPT

app = FastAPI()
model = FakeListChatModel(responses=[ANSWER])
add_routes(app, ChatPromptTemplate.from_template(PROMPT) | model | StrOutputParser(), path="/chat")
