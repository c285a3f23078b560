"""Mathematics in torch: transformer, VQ-GAN, action head, masks, and what each costs.

Knows ids, positions and masks. Must not know robots, files or what an id means. Read `transformer`
first, then `masks`.
"""
