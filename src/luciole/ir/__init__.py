"""What the three IRs share: types, quantization parameters, exact arithmetic, text literals, targets as data."""
