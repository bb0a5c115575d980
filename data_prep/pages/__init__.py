"""The pages that audit and stats write: as HTML that needs no network, and as Markdown."""
