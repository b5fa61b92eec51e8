"""SAE checkpoints on disk and on the hub: one file a family, `load_sae` for all of them.

The native layout, which `save_sae` writes, is sparsify's. Unknown cfg keys are tolerated, wrong
tensors are not.
"""

from .converting import convert
from .loading import bind_saes, load_sae, saes_below
from .pushing import push
from .sparsify import save_sae

__all__ = ["bind_saes", "convert", "load_sae", "push", "saes_below", "save_sae"]
