"""What makes objects of other libraries in the memory of a region."""
