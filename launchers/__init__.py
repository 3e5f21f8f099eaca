"""Where jobs run: this machine's pool of processes, and the adapter by which Hydra finds our sweeper."""
