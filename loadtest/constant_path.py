"""The address of the constant answer, which is not a page (node.page_slots), and a text in it."""

PATH = "/v1/loadtest/constant"
ANSWER = "x" * 400
