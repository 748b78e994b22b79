"""What answers the problems: transformers, vLLM, or a server that speaks OpenAI's protocol.

An engine (`base.Engine`) draws the `Sample`s that a `Job` misses, in whatever order they come; each
module says what it needs. Nothing is imported before it is used.
"""
