"""A prompt, ChatOpenAI and a parser behind LangServe, for uvicorn in the peers' own venv."""

import os

from fastapi import FastAPI
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from langserve import add_routes
from pydantic import SecretStr

from loadtest.settings import PROMPT

app = FastAPI()
model = ChatOpenAI(model="bench", base_url=os.environ["MOCK_URL"], api_key=SecretStr("none"))
add_routes(app, ChatPromptTemplate.from_template(PROMPT) | model | StrOutputParser(), path="/chat")
