"""Fine-tuning a denoiser on one person's comparisons."""
