"""A forum whose counters and last posts are rules."""
