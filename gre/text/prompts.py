"""What the suite itself asks a judge and a teacher, and questions that rows may ask a policy. What a policy is asked
stands in its data rows, and after training in its manifest; gre.text.chain_prompts has what an LLM is asked about
chains.

Formats are shown in words, never in digits: a prompt that shows numbers gets them echoed as an answer.
"""

COT_INSTRUCTION = (
    "Where was this photo taken? Reason step by step about architecture and street furniture, text on signs and "
    "plates, vegetation, terrain and transport. Write the reasoning between <think> and </think>, then the latitude "
    "and the longitude in decimal degrees, separated by a comma, between <answer> and </answer>."
)
"""GRE asks its teacher for the same five steps. Nobody is asked this by default."""

TEACHER_INSTRUCTION = (
    "Find out where on Earth this photo was taken, in five steps, each from what can be seen. First, architecture and "
    "street furniture: styles, materials, roofs, poles, kerbs, bins. Second, text on signs and plates: language, "
    "script, names, telephone and postal codes, the form of number plates. Third, vegetation, and the biomes that it "
    "grows in. Fourth, terrain: relief, soil, water, where the sun stands. Fifth, transport: vehicles, road markings, "
    "the side that is driven on. Leave out a step that the photo says nothing about, and name nothing that is not in "
    "it. Then weigh the steps against each other and name country, region and city, and the neighbourhood too, even on "
    "partial evidence. Reason in English and without any coordinates between <think> and </think>. Then write the "
    "latitude and the longitude in decimal degrees, separated by a comma, south and west with a minus sign, between "
    "<answer> and </answer>, and nothing else."
)
"""What a teacher is asked: GRE's five steps, in our words, since GRE's own are not published."""

PLACE_TEACHER_INSTRUCTION = (
    "Find out in which city this photo was taken, from what can be seen in it: buildings, street furniture, signs and "
    "their language, plants, relief, light, vehicles and road markings, clothes. Name only what is in the photo, say "
    "what each thing speaks for, weigh them against each other, and come to a country and a city, even on partial "
    "evidence. Reason in English and without any coordinates between <think> and </think>. Then write three lines "
    "between <answer> and </answer>, and nothing else. The first is country: and the name of the country, the second "
    "is city: and the name of the city, the third is localizability: and one word, high, medium, low or negative, for "
    "how well country and city can be told from this photo alone."
)
"""What a teacher is asked for MP16-Reason: localizability, reasoning and place, as GLOBE's are; in our words, since its
own are not published."""

REGION_INSTRUCTION = (
    "Where was this photo taken? From what can be seen, name the country, then the region, then the city, one a line, "
    "between <think> and </think>; then write the latitude and the longitude in decimal degrees, separated by a comma, "
    "between <answer> and </answer>."
)
"""The four levels of Geo-R's Chain of Region (arXiv 2601.00388)."""

PLACE_INSTRUCTION = (
    "You are a geolocation expert. You are participating in a geolocation challenge. Based on the provided image:\n"
    "1. Carefully analyze the image for clues about its location (architecture, signage, vegetation, terrain, etc.)\n"
    "2. Think step-by-step about what country, and city this is likely to be in and why\n\n"
    "Your final answer include these two lines somewhere in your response:\n"
    "country: [country name]\n"
    "city: [city name]\n\n"
    "You MUST output the thinking process in <think> </think> and give answer in <answer> </answer> tags."
)
"""What GLOBE asks in training, word for word. Its evaluation asks something else; here a model is asked what it was
trained on. MP16-Reason's rows hold no question of their own."""

JUDGE_INSTRUCTION = (
    "Here is someone's reasoning about where this photo was taken. Is the answer right? Say True or False."
)
"""The judge's question; picture and question come first, so that all chains about one picture share them."""

JUDGE_CHAIN = "\nReasoning: {chain}\nAnswer: {answer}"
"""What follows the judge's question in the same user turn; chain and answer enter as plain text."""

LOCALIZABILITY_INSTRUCTION = (
    "Here is someone's reasoning about where this photo was taken. Can the place be told from what is to be seen in "
    "it? Say yes or no."
)
"""The question of GLOBE's reward model, in the judge's form: GLOBE sends its own as a system message, and the whole
completion as the user's text."""

LOCALIZABILITY_CHAIN = "\nReasoning: {chain}"
"""What follows that question in the same user turn."""
