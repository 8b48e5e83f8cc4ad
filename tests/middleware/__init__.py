"""A region for each request, by the letter of the protocols and under real servers."""
