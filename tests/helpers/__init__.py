"""What several test files need, and what runs in other processes for them."""
