"""Small pieces that methods share: losses, orders, averages, schedules, what an optimiser trains."""
