"""What almost every trial imports: importing this module does it once, in the warm server, for all of them.

Not DeepSpeed, which looks for devices as it is imported; the ranks of a trial need it, and are processes of their own.
"""

from importlib import import_module

from rlhf import provenance

MODULES = (
    "rlhf.chain",
    "launchers.trial",
    "launchers.identify",
    "transformers.models.opt.modeling_opt",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "transformers.models.llama.modeling_llama",
    "accelerate.utils.other",
    "torch.distributed.fsdp",
)

for module in MODULES:
    import_module(module)
provenance.remember()
