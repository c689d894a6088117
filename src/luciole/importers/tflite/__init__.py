"""Import of TFLite models: `reader` (bytes -> tables), `check` (sound? supported?), `build` (-> graph)."""
