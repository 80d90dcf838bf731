"""The address of the constant answer, and a text in it."""

PATH = "/loadtest/constant"
ANSWER = "x" * 400
