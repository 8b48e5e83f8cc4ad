"""Regions, what they are made of, and pools of them."""
