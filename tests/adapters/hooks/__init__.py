"""Hooks: C libraries that allocate in a region."""
