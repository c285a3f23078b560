"""Mathematics in torch: transformer, masks, VQ-GAN. Knows ids, positions and masks; nothing of robots."""
