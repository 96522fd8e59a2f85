"""The Gradio panel, the command line and the browser side of the ComfyUI nodes."""
