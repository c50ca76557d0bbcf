"""Albums, and a rule that has gone."""
