"""What tests share: tiny models and runs, oracles, fakes, and ways to start a script."""
