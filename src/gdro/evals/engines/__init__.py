"""What answers the problems: transformers, vLLM, or a server that speaks OpenAI's protocol.

An engine is a function of `Request` and its own settings that yields `Sample`s in whatever order
they come; each module says what it needs. Nothing is imported before it is used.
"""
