"""Networks that measure quality: perceptual distance, sync expert, face embedder, discriminator."""
