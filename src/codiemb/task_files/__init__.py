"""A user's own folder: which tasks it holds, and their data, checked; light, without torch and mteb."""
