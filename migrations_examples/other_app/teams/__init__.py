"""Teams made of other apps' groups and users."""
