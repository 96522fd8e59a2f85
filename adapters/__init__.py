"""The core of Palate: torch, safetensors and the standard library. Never imports comfy, gradio, nodes or ui."""
