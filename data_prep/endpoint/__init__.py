"""Ask a language model behind an OpenAI-compatible endpoint: each request once, whatever happens."""
