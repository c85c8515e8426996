"""Every instruction the suite ever sends to a policy or a judge; gre.text.chain_prompts has what is asked about chains.

Formats are shown in words, never in digits: a prompt that shows numbers gets them echoed as an answer.
"""

COT_INSTRUCTION = (
    "Where was this photo taken? Reason step by step about architecture and street furniture, text on signs and "
    "plates, vegetation, terrain and transport. Write the reasoning between <think> and </think>, then the latitude "
    "and the longitude in decimal degrees, separated by a comma, between <answer> and </answer>."
)
"""The policy's question (GRE asks its teacher for the same five steps)."""

JUDGE_INSTRUCTION = (
    "Here is someone's reasoning about where this photo was taken. Is the answer right? Say True or False."
)
"""The judge's question; picture and question come first, so that all chains about one picture share them."""

JUDGE_CHAIN = "\nReasoning: {chain}\nAnswer: {answer}"
"""What follows the judge's question in the same user turn; chain and answer enter as plain text."""
