"""Pure functions on tensors: no configuration, no model, no logging. Shapes: B sequences, T tokens, R response tokens."""
