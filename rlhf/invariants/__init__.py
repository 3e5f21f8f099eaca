"""The verb `invariants`: what is learnt does not depend on how it is computed."""
