"""CHECK: what is refused or warned of, with the way out."""
