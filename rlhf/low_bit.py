"""The optional package for weights and moments in four or eight bits."""

import importlib
from types import ModuleType

from rlhf.fault import Fault


def bitsandbytes(key: str) -> ModuleType:
    """The package (Dettmers et al. 2022, 2023), which runs on CPUs and on GPUs.

    Raises:
        Fault: it is not installed; the message names ``key``, the setting that wants it.
    """
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise Fault(f"{key}: needs bitsandbytes, which is not installed ({error}); pip install 'rlhf[bitsandbytes]'") from error
