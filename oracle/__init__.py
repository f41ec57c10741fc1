"""The oracle: a real kernel's page allocator answers scripts, and the engine is held against its answers.

From a kernel tree to "N of N exact": ``source`` copies the tree aside, ``edits`` adds the driver
(``driver/``, C for mm/), ``build`` configures and compiles, ``qemu`` boots, ``recorded`` writes down what
came back.
``sets`` has the scripts that recorded runs are made of, ``fuzz`` makes others without end and ``shrink``
finds the shortest script that shows a difference.  ``asi-pa oracle`` is the command; ``docs/evidence.md``
says what has been recorded.
"""
