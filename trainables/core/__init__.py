"""The contracts of a method and the one driver that trains them all."""
