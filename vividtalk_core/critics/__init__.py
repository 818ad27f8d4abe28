"""Networks that judge: perceptual distance, sync expert, face embedder, discriminator."""
