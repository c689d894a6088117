"""Running neighboring operators row by row, so that of the tensors between them only a few rows exist at a time."""
