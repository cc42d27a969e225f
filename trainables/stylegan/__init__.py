"""StyleGAN3: generator, discriminator, adaptive augmentation, training, and generators as stages that trials share."""
