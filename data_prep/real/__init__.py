"""Real text from wheels: sources, records, evaluation sides."""
