"""Command-line steps from raw corpora to training and evaluation files; the package never imports them."""
