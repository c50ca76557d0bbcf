"""Articles whose comments are counted, whatever their columns are called."""
