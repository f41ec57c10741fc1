"""The words of a Design as the engine's numbers; what else the engine is made of is in ``types.pxd``.

Each member's name ends in the word ("" is NONE).
"""
