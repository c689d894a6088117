"""Graph to graph: one optimization a file, and the manager that runs, verifies, times and shows them."""
