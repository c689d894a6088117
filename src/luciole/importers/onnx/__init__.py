"""Import of ONNX models: `reader` (bytes -> tables), `upgrade` (to one meaning of each node), `build` (-> graph)."""
