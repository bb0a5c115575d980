"""Documents that stand in a source, or in several, more than once: equal, or nearly."""
