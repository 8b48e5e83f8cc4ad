"""What goes across: any thread, any moment, any refusal, any input, any program."""
