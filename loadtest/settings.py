"""Values that both sides of a comparison share; no import of either."""

ANSWER = "A headrace leads the water from the reservoir to the turbine of a mill or a power plant."
PROMPT = "You answer briefly. {text}"
QUESTION = "What is a headrace?"

TOKENS_PER_SECOND = 2.0
TOKENS_PER_STREAM = 20
