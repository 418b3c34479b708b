"""Arrays or a trained VAE in, numbers out."""
