"""A pool a node, refilled by 1 GiB, with marks: the chunk keeps its large leaves in the direct map.

    asi-pa compare redis --memory ample --no-relief --seeds 1 --full \\
        --design pool/sound --design examples/node_pools.py:NODE_POOLS
"""

from asi_pa import Design

NODE_POOLS = Design.based_on(
    "pool/sound",
    name="node-pools",
    title="a pool a node, refilled by 1 GiB",
    pool_by_node=True,
    refill_order=18,
    refill_leaves=True,
)
