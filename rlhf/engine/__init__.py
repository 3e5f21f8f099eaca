"""The only code that knows devices, number formats and optimizers. For now: plain torch on one device."""
