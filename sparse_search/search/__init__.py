"""What a sweep asks for and what is tried next: the file, samplers, the journal."""
