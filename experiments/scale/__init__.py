"""What a step of youtu2b costs on 1, 8 and 64 cards, by formulas: `python -m experiments.scale`."""
