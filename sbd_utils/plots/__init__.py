"""Results in, a matplotlib Figure out. Nothing here trains, saves or shows."""
