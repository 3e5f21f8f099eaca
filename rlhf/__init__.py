"""RLHF experiment sweeps: SFT, reward model and PPO from one composed Hydra config."""

__version__ = "0.1.0"
