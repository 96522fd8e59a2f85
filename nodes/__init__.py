"""ComfyUI nodes: read inputs, call one function of `adapters`, return. No mathematics here."""
