"""Files: written whole or not at all, and read as what anybody may have written."""
