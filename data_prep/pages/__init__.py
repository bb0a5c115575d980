"""Pages that steps write: one content, as HTML that needs no network and as Markdown."""
