"""A block flips when three quarters of it are free: what is used moves away first.

    asi-pa compare redis --memory 900M --no-relief --seeds 1 --full \\
        --design freetype --design examples/three_quarters.py:THREE_QUARTERS
"""

from asi_pa import Design

THREE_QUARTERS = Design.based_on(
    "freetype",
    name="three-quarters",
    title="freetype, a block flips when 3/4 of it are free",
    flip_free=75,
    flip_used="move",
)
