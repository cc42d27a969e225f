"""Search of a sweep: its file, the samplers and pruners, and the journal that says what is tried next."""
