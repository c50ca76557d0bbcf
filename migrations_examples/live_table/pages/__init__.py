"""Pages whose many views are counted."""
