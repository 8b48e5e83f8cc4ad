"""`Region.numpy`, and a region as the allocator of NumPy."""
