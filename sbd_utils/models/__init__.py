"""The encoder, the decoders and the VAE. No training, no plotting, no device handling."""
