"""What a user is given: the names, the command line, the README, the examples, the sdist and the wheel."""
