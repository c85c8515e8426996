"""Which chains are worth training on: GLOBE's four checks, and what must never be learnt from a teacher.

text (form, length, language, coordinates, instructions) → place (gazetteer) → meaning (teachers against each other) →
looks (an LLM that sees the photo) → __main__, which counts, keeps one chain a photo, mixes and writes.
"""
