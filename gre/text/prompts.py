"""What the suite itself asks a judge, and a question about places in GRE's words. What a policy is asked stands in its
data rows, and after training in its manifest; gre.text.chain_prompts has what an LLM is asked about chains.

Formats are shown in words, never in digits: a prompt that shows numbers gets them echoed as an answer.
"""

COT_INSTRUCTION = (
    "Where was this photo taken? Reason step by step about architecture and street furniture, text on signs and "
    "plates, vegetation, terrain and transport. Write the reasoning between <think> and </think>, then the latitude "
    "and the longitude in decimal degrees, separated by a comma, between <answer> and </answer>."
)
"""GRE asks its teacher for the same five steps. Nobody is asked this by default."""

JUDGE_INSTRUCTION = (
    "Here is someone's reasoning about where this photo was taken. Is the answer right? Say True or False."
)
"""The judge's question; picture and question come first, so that all chains about one picture share them."""

JUDGE_CHAIN = "\nReasoning: {chain}\nAnswer: {answer}"
"""What follows the judge's question in the same user turn; chain and answer enter as plain text."""
