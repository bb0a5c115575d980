"""For `relabel`: who says whether a mined candidate is right after all, and how far judges agree."""
