"""Answers in words: what a sentence says, short texts, documents, charts, multiple choice."""
