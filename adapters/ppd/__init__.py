"""PPD: one denoiser that knows many people by a user embedding. Source: Dang et al. 2025, arXiv:2501.06655."""
