"""What a machine with a card has to show, in one command: `python -m experiments.gpu_check`."""
