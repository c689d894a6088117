"""What the three IRs share: element types, quantization parameters, exact arithmetic, text literals, targets as data."""
